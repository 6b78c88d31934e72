"""A radiologist opens a patient out of scope, or withheld, for a while by giving a reason (``emergency_access``).

Only people who signed in with an account of their own: a token may be shared, and a sidebar's link names nobody. The
page tells nothing about a study before the reason is given and recorded. To whoever may not ask, it is nowhere.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, make_response, render_template, request, url_for

from radir_pacs import __version__
from radir_pacs.access.sessions import may_open_patients
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, NotFound

from . import audit, scope_guard, session, way_back
from .services import services

blueprint = Blueprint("emergency", __name__)

_LEAST, _MOST = 10, 400  # characters of a reason
_MOST_BEGUN = 20  # patients within the time of one, ended or not: nobody pages through the archive so


@blueprint.get("/api/emergency")
def offered() -> Response:
    """Whether the caller may ask, for the sidebar, which then leads to the page; the same whatever the study."""
    answer = jsonify({"may_ask": is_offered()})
    answer.headers["Cache-Control"] = "no-store"
    return answer


@blueprint.get("/emergency")
def ask() -> Response:
    """``/emergency?study=…``: asks for the reason, and lists what is open to the caller."""
    return _page(request.args.get("study", "")[:64])


@blueprint.post("/emergency")
def begin() -> Response:
    """Open the patient of ``study``; the page then lists it. Raises BadInput, NotFound.

    Not the study's own page: another process, which may answer for it, believes what it read for up to a second.
    """
    _require_may_ask()
    session.check_form()
    study, reason = request.form.get("study", "").strip(), " ".join(request.form.get("reason", "").split())
    if not is_valid_uid(study):
        raise BadInput("the study is not a UID (PS3.5 9.1)")
    if not (_LEAST <= len(reason) <= _MOST and reason.isprintable()):
        raise BadInput(f"the reason has {_LEAST} to {_MOST} printable characters")
    context, by = services(), audit.caller()
    if study not in scope_guard.admitted([study]):
        valid_s = context.settings.emergency_access_s
        context.catalogue.emergencies.begin(study, reason, valid_s=valid_s, most=_MOST_BEGUN, by=by)
        context.sessions.forget(session.browser())
    return way_back.to_page(url_for("emergency.ask"), 303)


@blueprint.post("/emergency/<int:number>/end")
def end(number: int) -> Response:
    """End one of the caller's own before its time. Raises NotFound."""
    _require_may_ask()
    session.check_form()
    services().catalogue.emergencies.end(number, by=audit.caller(), of=audit.caller().name)
    services().sessions.forget(session.browser())
    return way_back.to_page(url_for("emergency.ask"), 303)


def is_offered() -> bool:
    """Whether the caller may ask, as far as is known: error pages use it too, and must not ask the catalogue."""
    held = session.held_if_known()
    if held is None or not held.is_of_account or not audit.is_known():
        return False
    by = audit.caller()
    return by.scope.restricts and may_open_patients(by.role, services().settings)


def _require_may_ask() -> None:
    if not is_offered():
        raise NotFound("there is nothing to ask for here")


def _page(study: str) -> Response:
    _require_may_ask()
    response = make_response(
        render_template(
            "emergency.html",
            version=__version__,
            csrf=session.csrf(),
            study=study if is_valid_uid(study) else "",
            open_now=services().catalogue.emergencies.open_of(audit.caller().name),
            minutes=round(services().settings.emergency_access_s / 60),
            least=_LEAST,
            most=_MOST,
        )
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "same-origin"  # under no-referrer a form's Origin is "null" (Fetch 3.1)
    session.keep(response)
    return response
