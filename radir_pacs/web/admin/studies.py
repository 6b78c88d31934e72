"""Find a study, see what happened to it, and have it encoded again. The only pages here that show identifiers.

Whoever is listed or opened is recorded in the audit trail.
"""

from __future__ import annotations

from flask import Response, request, url_for

from radir_pacs.access import finding
from radir_pacs.errors import Conflict
from radir_pacs.types import StudyState
from radir_pacs.web import audit
from radir_pacs.web.dicomweb import parameters
from radir_pacs.web.services import services

from . import view

blueprint = view.guarded("admin_studies", __name__)

_MOST = 100
RETRIED = frozenset({StudyState.QUARANTINED, StudyState.SKIPPED})


@blueprint.get("/studies")
def studies() -> Response:
    """``?find=…`` or ``?state=…&reason=…``; the newest studies without either."""
    context = services()
    text, state, reason = (parameters.one(name) or "" for name in ("find", "state", "reason"))
    text = text.strip()
    chosen = StudyState(state) if state in StudyState.__members__ else None
    if text or chosen is None:
        found = finding.found(text, context.catalogue, context.settings, by=audit.caller(), most=_MOST)
        found = tuple(study for study in found if chosen in (None, study.state))
    else:
        code = finding.code_of(reason) if reason else None
        found = context.catalogue.studies.in_state(chosen, _MOST, code)
    audit.note_listed([study.study_uid for study in found])
    return view.page(
        "studies.html", studies=found, find=text, state=chosen, reason=reason, states=StudyState, most=_MOST
    )


@blueprint.get("/studies/<study>")
def study(study: str) -> Response:
    """What happened to one study. Raises NotFound."""
    catalogue = services().catalogue
    found = catalogue.studies.get(study)
    return view.page(
        "study.html",
        study=found,
        events=catalogue.survey.timeline(study),
        before=catalogue.jobs.before(study) if found.state is StudyState.STABLE else 0,
        retried=found.state in RETRIED,
        receiving=found.state is StudyState.RECEIVING,
        ready=found.state in (StudyState.ENCODED, StudyState.INDEXED),
        quiet_s=services().settings.quiet_period_s,
        done=request.args.get("done"),
    )


@blueprint.post("/studies/<study>/retry")
def retry(study: str) -> Response:
    """Encode it again, as ``radir problems retry STUDY`` does. Raises NotFound, Conflict."""
    catalogue = services().catalogue
    if not catalogue.retry(study).studies:
        raise Conflict(f"nothing to try again: the study is {catalogue.studies.get(study).state}")
    return view.after(url_for("admin_studies.study", study=study, done="retried"))


@blueprint.post("/studies/<study>/complete")
def complete(study: str) -> Response:
    """Wait for no more images, as ``radir complete STUDY`` does. Raises NotFound."""
    services().catalogue.studies.complete_now(study)
    return view.after(url_for("admin_studies.study", study=study, done="completed"))
