"""An error as a page for a person: what went wrong, the nearest names as links, a form to continue."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response, make_response, render_template, request

from radir_pacs import __version__
from radir_pacs.dicom.uids import is_valid_uid

from . import language

_PAGES = ("/similar", "/studies", "/sidebar", "/ohif", "/sign-in", "/account", "/developers", "/emergency")


def is_page(path: str) -> bool:
    """Whether the answer of this route is meant for a person."""
    return path == "/" or path.startswith(tuple(page + "/" for page in _PAGES)) or path in _PAGES


def is_wanted() -> bool:
    """Whether the current request is for a page and prefers HTML to our JSON; no preference means JSON."""
    return prefers_html() and request.method in {"GET", "HEAD"} and is_page(request.path)


def prefers_html() -> bool:
    """Whether a browser asks, rather than a program."""
    accepted = request.accept_mimetypes
    return bool(accepted.quality("text/html") > accepted.quality("application/json"))


def error_page(status: int, code: str, message: str, nearest: Sequence[str] = ()) -> Response:
    """The page, in the reader's language. It does not use the catalogue, which may be what failed."""
    values = request.view_args or {}
    asked = (values.get("study"), request.args.get("study"), request.args.get("StudyInstanceUID"))
    study = next((uid for uid in asked if isinstance(uid, str) and is_valid_uid(uid)), None)
    spoken = language.current()
    page = render_template(
        "error.html",
        version=__version__,
        message=spoken.error(code, message).format(text=request.args.get("anatomy", "")),
        details=message if spoken.tag != "en" else None,
        nearest=nearest,
        study=study,
        is_known=status not in {401, 404},
        is_not_found=status == 404,
        # If the study is the problem, another region does not help.
        anatomy=request.args.get("anatomy", "") if study and status == 400 else None,
    )
    response = make_response(page, status)
    response.vary.add("Accept")
    return response
