"""An error as a page, for a person at a browser: what went wrong, the nearest regions as links, and a form to go on."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response, make_response, render_template, request

from radir_pacs import __version__
from radir_pacs.dicom.uids import is_valid_uid

_PAGES = ("/similar", "/studies", "/sidebar", "/ohif", "/sign-in")


def is_page(path: str) -> bool:
    """Whether a person reads what this route answers."""
    return path == "/" or path.startswith(tuple(page + "/" for page in _PAGES)) or path in _PAGES


def is_wanted() -> bool:
    """Whether the current request is for a page and prefers HTML to our JSON; who has no preference gets JSON."""
    accepted = request.accept_mimetypes
    prefers = accepted.quality("text/html") > accepted.quality("application/json")
    return prefers and request.method in {"GET", "HEAD"} and is_page(request.path)


def error_page(status: int, message: str, nearest: Sequence[str] = ()) -> Response:
    """The page. It asks nothing of the catalogue, which may be what failed."""
    values = request.view_args or {}
    asked = (values.get("study"), request.args.get("study"), request.args.get("StudyInstanceUID"))
    study = next((uid for uid in asked if isinstance(uid, str) and is_valid_uid(uid)), None)
    page = render_template(
        "error.html",
        version=__version__,
        message=message,
        nearest=nearest,
        study=study,
        is_known=status not in {401, 404},
        # Where the study is the trouble, another region helps nobody.
        anatomy=request.args.get("anatomy", "") if study and status == 400 else None,
    )
    response = make_response(page, status)
    response.headers["Vary"] = "Accept"
    return response
