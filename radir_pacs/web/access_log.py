"""One line per request: which route, how it ended, how long it took, and nothing about a patient.

The route replaces the path, and the query string is left out: both may hold identifiers and a hostile client's text.
"""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

log = logging.getLogger(__name__)

_QUIET = frozenset({"health.live", "health.ready", "viewer.file", "ohif.file", "pages.icon", "static"})


def install(app: Flask) -> None:
    """Log the requests to ``app``, a streamed answer when it has ended; probes and static files only if they fail."""

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()

    @app.after_request
    def end(response: Response) -> Response:
        began: float = g.get("began", time.monotonic())
        method, endpoint, status = request.method, request.endpoint, response.status_code
        route = request.url_rule.rule if request.url_rule else None

        def note() -> None:
            level = logging.WARNING if status >= 500 else logging.INFO
            level = logging.DEBUG if endpoint in _QUIET and status < 400 else level
            took_ms = round((time.monotonic() - began) * 1000)
            log.log(level, "request", extra={"method": method, "route": route, "status": status, "took_ms": took_ms})

        response.call_on_close(note)
        return response
