"""Answers in the DICOM JSON model (PS3.18 F): keys of eight upper-case hex digits, ascending; no empty ``Value``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, current_app

from radir_pacs.delivery.dicom_json import Attributes, element

__all__ = ["Attributes", "ascending", "element", "json_response", "warn", "warn_of_more"]

_CONTROLS = dict.fromkeys((*range(0x20), 0x7F), " ")  # no header may hold them (RFC 9110 5.5)


def ascending(attributes: Mapping[str, Any]) -> Attributes:
    return {tag: attributes[tag] for tag in sorted(attributes)}


def json_response(rows: Sequence[Attributes] | Attributes, media_type: str, status: int = 200) -> Response:
    return Response(current_app.json.dumps(rows), status=status, content_type=media_type)


def warn_of_more(response: Response, base_url: str, more: int, *, is_exact: bool = True) -> None:
    """Say that more results remain, in the words that PS3.18 8.3.4.4 prescribes, or that at least so many do."""
    if more > 0:
        number = more if is_exact else f"at least {more}"
        warn(response, base_url, f"There are {number} additional results that can be requested")


def warn(response: Response, base_url: str, text: str) -> None:
    shown = text.encode("ascii", "replace").decode().translate(_CONTROLS)
    response.headers.add("Warning", f"299 {base_url}: {shown}")
