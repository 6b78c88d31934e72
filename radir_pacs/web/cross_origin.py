"""Cross-origin requests (CORS, Fetch 3.2): pages of listed origins may read and store; by default none may.

A preflight carries no token, so it is answered before the token is checked. Cookies and stored passwords are not used:
no answer allows credentials, so a page must send a token of its own.
"""

from __future__ import annotations

from flask import Flask, Response, request

from radir_pacs.config import Settings

from .services import BASE

PATHS = (BASE + "/", "/wado", "/api/")
_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
_HEADERS = "Accept, Accept-Language, Authorization, Content-Encoding, Content-Type, If-None-Match, Range"
_EXPOSED = "Content-Encoding, Content-Length, Content-Location, ETag, Location, Retry-After, Warning, WWW-Authenticate"
_PREFLIGHT_S = 600


def is_admitted(settings: Settings) -> bool:
    """Whether the current request comes from a listed origin, to a path that such pages may use."""
    return _is_open() and request.headers.get("Origin", "").lower() in settings.cors_origins


def _is_open() -> bool:
    return request.path.startswith(PATHS) or request.path == BASE


def install(app: Flask, settings: Settings) -> None:
    """Answer preflights and add the CORS headers. Must be installed before anything that refuses requests."""

    @app.before_request
    def preflight() -> Response | None:
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asks or not is_admitted(settings):
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _HEADERS
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_S)
        return response

    @app.after_request
    def allow(response: Response) -> Response:
        if settings.cors_origins and _is_open():
            response.vary.add("Origin")  # a cache must not serve one origin's response to another
            if is_admitted(settings):
                response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
                response.headers["Access-Control-Expose-Headers"] = _EXPOSED
                response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response
