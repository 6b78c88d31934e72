"""What all administrator's pages share: how a page is made, what guards its forms, how an error reads."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, g, make_response, render_template, request

from radir_pacs import __version__
from radir_pacs.errors import RadirError, UnknownRegion
from radir_pacs.web import language, session, way_back
from radir_pacs.web.error_page import prefers_html
from radir_pacs.web.errors import error_response

from .figures import Figures
from .words import Speaker

log = logging.getLogger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_STATE = "X-Radir-State"


def guarded(name: str, import_name: str) -> Blueprint:
    """A blueprint whose forms are checked, and whose errors are pages."""
    blueprint = Blueprint(name, import_name, url_prefix=way_back.ADMIN)

    @blueprint.before_request
    def check() -> None:
        if request.method == "POST":
            session.check_form()

    @blueprint.errorhandler(RadirError)
    def failed(error: RadirError) -> Response:
        if error.http_status >= 500:
            log.warning("request failed", extra={"code": error.code, "route": request.endpoint})
        if not prefers_html():
            return error_response(error.http_status, error.code, str(error))
        general = language.current().error(error.code, str(error))
        return page("error.html", status=error.http_status, message=general, details=str(error))

    return blueprint


def page(template: str, *, status: int = 200, **values: object) -> Response:
    """A whole page."""
    known = g.get("radir_caller")
    response = make_response(
        render_template(
            f"admin/{template}",
            version=__version__,
            csrf=session.csrf(),
            signed_in=known.name if known is not None else None,
            may_sign_out=g.get("radir_held") is not None,  # an error page must not ask the catalogue
            **_spoken(),
            **values,
        ),
        status,
    )
    _finish(response)
    session.keep(response)
    return response


def part(template: str, *, state: str = "", **values: object) -> Response:
    """A piece that a page replaces every few seconds; the whole page is loaded again when ``state`` changes."""
    response = make_response(render_template(f"admin/{template}", state=state, **_spoken(), **values))
    _finish(response)
    response.headers[_STATE] = state
    return response


def after(address: str) -> Response:
    """To a page, after a form was acted upon."""
    return way_back.to_page(address, 303)


def field(name: str, most: int = 1000) -> str:
    """What a form says under a name; cut where it is longer than anybody types."""
    return request.form.get(name, "")[:most].strip()


def _spoken() -> dict[str, object]:
    tag = language.current().tag
    say = Speaker(tag)
    return {"say": say, "fig": Figures(tag, say), "region_name": _region_name}


def _region_name(key: str) -> str:
    """In the reader's language; the key itself for a region of a later version."""
    try:
        return language.current().region(key)
    except UnknownRegion:
        return key


def _finish(response: Response) -> None:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "same-origin"  # under no-referrer a form's Origin is "null" (Fetch 3.1)
