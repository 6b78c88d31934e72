"""The sidebar's files, and its stand-alone page ``/sidebar?StudyInstanceUID=…`` for any PACS that can open a URL.

With ``sidebar_context_tokens`` the URL holds no identifier: the PACS asks for a token (``POST /sidebar/context``, with
its own credentials) and opens ``/sidebar?context=…``. The token is then kept in a cookie that no script can read, and
lets this browser do what `context_rights` allows.
"""

from __future__ import annotations

import secrets
from importlib.resources import as_file, files
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, render_template, request, send_from_directory

from radir_pacs.callers import AuditEvent
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.web import audit, scope_guard
from radir_pacs.web.context_rights import COOKIE, PAGE
from radir_pacs.web.dicomweb import parameters
from radir_pacs.web.services import services

blueprint = Blueprint("viewer", __name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
READER_CHARACTERS = 64
_SUFFIXES = (".js", ".css")


@blueprint.get("/viewer/<path:name>")
def file(name: str) -> Response:
    """A module or style sheet of the viewer; these contain no patient data and need no token."""
    if not name.endswith(_SUFFIXES) or "node_modules" in name:
        raise NotFound("there is no such file")
    with as_file(files("radir_viewer")) as folder:
        return send_from_directory(folder / "component", name)


@blueprint.get(PAGE)
def sidebar() -> Response:
    """The page. Raises BadInput without a study, or with an identifier where a token is required."""
    context = services()
    token = parameters.one("context")
    if token is not None:
        study = context.catalogue.contexts.get(token).study_uid
    elif context.settings.sidebar_context_tokens:
        raise BadInput("this page is opened with a context token; see POST /sidebar/context")
    else:
        study = parameters.one("StudyInstanceUID") or ""
    if not is_valid_uid(study):
        raise BadInput("StudyInstanceUID is not a UID (PS3.5 9.1)")
    page = render_template(
        "sidebar.html", study=study, region=parameters.one("anatomy") or "", by_link=token is not None
    )
    response = make_response(page)
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Cache-Control"] = "no-store"
    if token is not None:
        response.set_cookie(
            COOKIE,
            token,
            max_age=int(context.settings.sidebar_context_s),
            httponly=True,
            samesite="Strict",
            secure=context.settings.public_url.startswith("https:"),
        )
    return response


@blueprint.post("/sidebar/context")
def context() -> tuple[Response, int]:
    """``{"StudyInstanceUID": …, "reader": …}`` -> a token and the URL that opens the sidebar by it.

    ``reader``, who opens it, may be left out; where it is given, judgements go by that name and no other.
    Raises BadInput, NotFound.
    """
    body: Any = request.get_json(silent=True)
    study = body.get("StudyInstanceUID") if isinstance(body, dict) else None
    if not isinstance(study, str) or not is_valid_uid(study):
        raise BadInput("StudyInstanceUID is not a UID (PS3.5 9.1)")
    reader = body.get("reader")
    if reader is not None and (not isinstance(reader, str) or not 0 < len(reader) <= READER_CHARACTERS):
        raise BadInput(f"reader is a name of at most {READER_CHARACTERS} characters")
    settings = services().settings
    token = secrets.token_urlsafe(24)
    catalogue = services().catalogue
    scope_guard.require(study)
    catalogue.contexts.open(study, token, settings.sidebar_context_s, reader, audit.caller().scope)
    catalogue.audit.note(AuditEvent.LINK_OPENED, audit.caller(), study, reader=reader)
    answer = {
        "context": token,
        "url": f"{settings.public_url}/sidebar?context={token}",
        "valid_s": settings.sidebar_context_s,
    }
    return jsonify(answer), 201
