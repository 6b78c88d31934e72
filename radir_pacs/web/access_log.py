"""One line per request, and its figures: which route, how it ended, how long it took, and nothing about a patient.

The route replaces the path, and the query string is left out: both may hold identifiers and a hostile client's text.
The study of a request shows as its trace.
"""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

from radir_pacs import metrics, traces
from radir_pacs.logs import trace_of

log = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = frozenset(
    {"figures.metrics", "health.live", "health.ready", "viewer.file", "ohif.file", "pages.icon", "static"}
)


def install(app: Flask) -> None:
    """Log the requests to ``app``, a streamed answer when it has ended; probes and static files only if they fail."""

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        study_uid = (request.view_args or {}).get("study") or request.args.get("similarto", "")
        span = traces.start("request", study_uid, traceparent=request.headers.get("traceparent", ""))
        g.span = span.__enter__()  # it ends when the answer has, which may be streamed

    @app.after_request
    def end(response: Response) -> Response:
        began: float = g.get("began", time.monotonic())
        span: traces.Span = g.get("span", traces.OFF)
        method, endpoint, status = request.method, request.endpoint, response.status_code
        route = request.url_rule.rule if request.url_rule else None
        study_uid = (request.view_args or {}).get("study")
        traced: dict[str, object] = {"trace": trace_of(study_uid)} if study_uid else {}

        def note() -> None:
            level = logging.WARNING if status >= 500 else logging.INFO
            level = logging.DEBUG if endpoint in _QUIET and status < 400 else level
            took_s = time.monotonic() - began
            known = method if method in _METHODS else "other"
            metrics.HTTP_REQUESTS.labels(known, route or "none", status).inc()
            metrics.HTTP_SECONDS.labels(route or "none").observe(took_s)
            said = {"method": method, "route": route, "status": status, "took_ms": round(took_s * 1000)}
            log.log(level, "request", extra=traced | said)
            with span:
                span.end(failed=status >= 500, method=known, route=route or "none", status=status)

        response.call_on_close(note)
        return response
