"""UIDs in paths, checked before any route runs: a valid one is safe in a path, a URL, a header and a log line."""

from __future__ import annotations

from typing import Any

from flask import Flask

from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput

_UID_PARTS = ("study", "series", "instance")


def install(app: Flask) -> None:
    @app.url_value_preprocessor
    def check(endpoint: str | None, values: dict[str, Any] | None) -> None:
        for name in _UID_PARTS:
            if values and name in values and not is_valid_uid(values[name]):
                raise BadInput(f"the {name} in the path is not a UID (PS3.5 9.1)")
