"""How the installation is: studies, the last day by the hour, jobs, disk, processes, index, problems by reason."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for

from radir_pacs.access.finding import code_of
from radir_pacs.catalogue import SILENT_S, Flow, ProblemOf
from radir_pacs.storage.room import disk_of
from radir_pacs.types import JobState, ModelState, StudyState
from radir_pacs.web.services import services

from . import view
from .charts import bars
from .quality import watched

blueprint = view.guarded("admin_overview", __name__)
blueprint.static_folder = "static"
blueprint.static_url_path = "/static"

LATELY_S = 15.0  # that a page which refreshes itself may be behind
_KEY = "overview"


@blueprint.get("")
def overview() -> Response:
    """The state of the installation."""
    return view.page("overview.html", **services().overview.anew(_KEY, _told))


@blueprint.get("/live")
def live() -> Response:
    """The same as a piece of the page."""
    return view.part("overview_live.html", **services().overview.get(_KEY, _told))


@blueprint.get("/retry/<code>")
def ask_retry(code: str) -> Response:
    """How many studies and jobs would be tried again, and a form that does it. Raises BadInput."""
    asked = code_of(code)
    found = [one for one in services().catalogue.survey.problems() if one.reason_code is asked]
    counts = {of: sum(one.count for one in found if one.of is of) for of in (ProblemOf.STUDY, ProblemOf.JOB)}
    return view.page("retry.html", code=asked, studies=counts[ProblemOf.STUDY], jobs=counts[ProblemOf.JOB])


@blueprint.post("/retry/<code>")
def retry(code: str) -> Response:
    """Try again every study and job with this reason code, as ``radir problems retry --reason CODE`` does."""
    tried = services().catalogue.retry(reason_code=code_of(code))
    return view.after(url_for("admin_overview.overview", studies=len(tried.studies), jobs=tried.jobs))


def _told() -> dict[str, Any]:
    context = services()
    catalogue = context.catalogue
    found = catalogue.overview()
    throughput = catalogue.survey.throughput()
    problems = catalogue.survey.problems()
    oldest = found.oldest_by_kind
    open_jobs = [job for job in found.jobs if job.state in (JobState.PENDING, JobState.RUNNING)]
    waiting = {kind: sum(job.count for job in open_jobs if job.kind is kind) for kind in oldest}
    skipped = [one for one in problems if one.of is ProblemOf.STUDY and one.where == StudyState.SKIPPED]
    return {
        "studies": [(state, found.studies.get(state, 0)) for state in StudyState],
        "total": sum(found.studies.values()),
        "flows": [(flow, throughput[flow], bars(throughput[flow])) for flow in Flow],
        "oldest": sorted(((kind, age_s, waiting[kind]) for kind, age_s in oldest.items()), key=lambda one: -one[1]),
        "disk": disk_of(context.settings),
        "processes": found.processes,
        "silent_s": SILENT_S,
        "indexes": catalogue.survey.indexes(),
        "serving": {model.model_id for model in catalogue.models.all() if model.state is ModelState.SERVING},
        "watched": [one for one in watched() if one.serves],
        "problems": [one for one in problems if one not in skipped],
        "skipped": skipped,
        "waiting_reports": found.waiting_reports,
        "emergencies": catalogue.emergencies.figure(),
    }
