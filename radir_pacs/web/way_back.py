"""Where a browser goes after somebody has signed in: to a page of ours, whatever the address says."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from flask import Response, redirect, request

from .error_page import is_page

SIGN_IN = "/sign-in"
ADMIN = "/admin"
_CHARACTERS = r"A-Za-z0-9._~!$&'()*+,;=:@%/-"  # RFC 3986 3.3: no backslash, nothing that a header or a page reads
_WRITTEN = re.compile(rf"/[{_CHARACTERS}]*(?:\?[{_CHARACTERS}?]*)?")
_MOST = 2000
_NOT_THERE = ("/sign-in", "/sign-out")


def page_of_ours(to: str) -> str:
    """The path and query, if they are of a page here; else the start page's."""
    path = to.partition("?")[0]
    fits = len(to) <= _MOST and _WRITTEN.fullmatch(to) and "//" not in path
    if not fits or path.startswith(_NOT_THERE) or not (is_page(path) or is_admin(path)):
        return "/"
    return to


def is_admin(path: str) -> bool:
    """Whether the path is below the administrator's pages."""
    return path == ADMIN or path.startswith(ADMIN + "/")


def to_sign_in(**why: str) -> Response:
    """To the sign-in page, and from there back to the page that the current request is for."""
    back = request.full_path.rstrip("?") if request.method in {"GET", "HEAD"} else ADMIN
    return to_page(f"{SIGN_IN}?{urlencode({'to': back} | why)}")


def to_page(address: str, status: int = 302) -> Response:
    response = redirect(address, status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "same-origin"  # under no-referrer a form's Origin is "null" (Fetch 3.1)
    return response  # type: ignore[return-value]
