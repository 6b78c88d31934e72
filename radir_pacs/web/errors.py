"""One shape for every error of every route: ``{"error": {"code": …, "message": …}}``, with nothing about a patient.

A browser that asks for one of the pages gets the same message as a page.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from types import TracebackType
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from radir_pacs.errors import DicomRefused, NotAcceptable, RadirError, TooManyRequests, UnknownRegion

from . import error_page

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

log = logging.getLogger(__name__)

_AWAY_S = 5  # what is away is asked again every few seconds
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


def error_body(code: str, message: str, **details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **details}}


def error_response(status: int, code: str, message: str, **details: Any) -> Response:
    if error_page.is_wanted():
        return error_page.error_page(status, code, message, details.get("nearest", ()))
    response = jsonify(error_body(code, message, **details))
    response.status_code = status
    return response


def http_code(status: int) -> str:
    """The name of an HTTP status in the error shape."""
    return _CODES.get(status) or HTTP_STATUS_CODES.get(status, "error").lower().replace(" ", "_")


def _route() -> str | None:
    """The pattern of the route, which identifies no patient."""
    return request.url_rule.rule if request.url_rule else None


def install(app: Flask) -> None:
    """Answer every failure of ``app`` in the one shape."""

    @app.errorhandler(RadirError)
    def known(error: RadirError) -> Response:
        if error.http_status >= 500:
            log.warning("request failed", extra={"code": error.code, "route": _route()})
        if isinstance(error, DicomRefused) and request.method in ("GET", "HEAD"):
            # The request is fine, but what is stored cannot be converted into the form it asks for.
            return error_response(NotAcceptable.http_status, NotAcceptable.code, str(error))
        details = {"nearest": list(error.nearest)} if isinstance(error, UnknownRegion) else {}
        response = error_response(error.http_status, error.code, str(error), **details)
        if isinstance(error, TooManyRequests):
            response.headers["Retry-After"] = str(error.wait_s)
        elif error.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = str(_AWAY_S)
        return response

    def log_exception(exc_info: ExcInfo) -> None:
        """Where an error's page fails too; Flask's own would write the path, which may name a study."""
        log.error("request failed", exc_info=exc_info, extra={"code": "internal", "route": _route()})

    app.log_exception = log_exception  # type: ignore[method-assign]

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        status = error.code or 500
        response = error_response(status, http_code(status), HTTP_STATUS_CODES.get(status, "Error"))
        for name, value in error.get_headers():
            if name.lower() in {"allow", "www-authenticate", "retry-after"}:
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> Response:
        # The edge of the process. Our log formatter writes where it happened and leaves out the exception's text.
        log.exception("request failed", extra={"code": "internal", "route": _route()})
        return error_response(500, "internal", "The server failed on this request.")
