"""Limits on JSON request bodies: their size and their nesting."""

from __future__ import annotations

from typing import Any

from flask import Flask, request
from flask.json.provider import DefaultJSONProvider

BODY_BYTES = 256 * 1024


class _Provider(DefaultJSONProvider):
    sort_keys = False  # the DICOM JSON model has an order of its own

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Raises ValueError, also for JSON that is nested too deeply."""
        try:
            return super().loads(s, **kwargs)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None


def install(app: Flask, large: frozenset[str]) -> None:
    """Bound the request bodies of all endpoints except ``large`` ones, which have bounds of their own."""
    app.json = _Provider(app)

    @app.before_request
    def bound() -> None:
        if request.endpoint not in large:
            request.max_content_length = BODY_BYTES
