"""The text of a report that came as a DICOM structured report (PS3.3 C.17.3: Basic Text, Enhanced, TID 2000)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CONTENT, _VALUE_TYPE, _NAME, _TEXT, _CODE = "0040A730", "0040A040", "0040A043", "0040A160", "0040A168"
_MEANING = "00080104"
_MOST_ITEMS = 10_000


def sr_text(attributes: Mapping[str, Any]) -> str:
    """Headings and texts of the content tree, in order; empty when it holds no text.

    ``attributes``: the object's header as DICOM JSON model (PS3.18 F), whose depth was bounded when it was read. A
    heading is written as ``FINDINGS:`` on a line of its own, as sections in plain text are.
    """
    return "\n".join(_lines(attributes)).strip()


def _lines(root: Mapping[str, Any]) -> Iterator[str]:
    stack = list(reversed(_items(root)))
    seen = 0
    heading = ""
    while stack and seen < _MOST_ITEMS:
        item = stack.pop()
        seen += 1
        name = _meaning(item, _NAME)
        match _first(item, _VALUE_TYPE):
            case "CONTAINER":
                if name:
                    heading = name.upper()
                    yield f"\n{heading}:"
            case "TEXT":
                if name and name.upper() not in {heading, heading.rstrip("S")}:
                    heading = name.upper()
                    yield f"\n{heading}:"
                yield str(_first(item, _TEXT) or "").strip()
            case "CODE":
                yield f"{_meaning(item, _CODE)}."
        stack.extend(reversed(_items(item)))


def _items(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [child for child in item.get(_CONTENT, {}).get("Value", []) if isinstance(child, Mapping)]


def _first(item: Mapping[str, Any], tag: str) -> Any:
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


def _meaning(item: Mapping[str, Any], tag: str) -> str:
    code = _first(item, tag)
    return str(_first(code, _MEANING) or "").strip() if isinstance(code, Mapping) else ""
