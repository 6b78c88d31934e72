"""Retraining: a plan is tried, begun, watched and cancelled; its evidence is read.

A run that is watched is asked for every two seconds and not streamed: an open stream (server-sent events) holds one of
the few threads of a web process for as long as somebody looks. Measured with 8 threads: beside 8 open streams any other
request waited until one of them ended (12 s, as long as they were), beside 16 pages that ask it took 5.3 ms at the
median, and 3.1 ms beside none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, make_response, request, url_for

from radir_pacs.catalogue import RetrainingRun
from radir_pacs.errors import NotFound
from radir_pacs.models import cancel_retraining
from radir_pacs.models.run_files import RunFiles, run_of
from radir_pacs.printable import printable
from radir_pacs.types import ImageKind
from radir_pacs.web import audit
from radir_pacs.web.services import services

from . import retrain_command, view
from .charts import HEIGHT, WIDTH, curves

blueprint = view.guarded("admin_retraining", __name__)

_BEGINS = timedelta(minutes=1)
_DEPTHS = ("head", "full")
_ENDED = frozenset({"DONE", "REFUSED", "CANCELLED"})
_PAGE_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; sandbox"
)


@blueprint.get("/retraining")
def runs() -> Response:
    """All runs, and a form for the plan of another."""
    catalogue = services().catalogue
    serving = [kind for kind in ImageKind if catalogue.models.serving(kind) is not None]
    return view.page(
        "retraining.html",
        runs=[(run, _state(run)) for run in catalogue.retraining.runs()],
        kinds=serving,
        depths=_DEPTHS,
    )


@blueprint.post("/retraining/try")
def try_plan() -> Response:
    """What a run of the plan would take, or why it would be refused; as ``radir retrain --dry-run``."""
    plan = _plan()
    told = retrain_command.tried(plan, services().settings)
    return view.page("retraining_tried.html", told=told, plan=plan)


@blueprint.post("/retraining/start")
def start() -> Response:
    """Begin a run, as ``radir retrain --detach``. Raises BadInput, Conflict."""
    number = retrain_command.begun(_plan(), services().settings, by=audit.caller().name)
    return view.after(url_for("admin_retraining.run", number=number))


@blueprint.get("/retraining/<int:number>")
def run(number: int) -> Response:
    """One run: its steps, losses, gates and log. Raises NotFound."""
    told = _told(number)
    return view.page("retraining_run.html", done=request.args.get("done"), **told)


@blueprint.get("/retraining/<int:number>/live")
def live(number: int) -> Response:
    """Its steps, losses and log as a piece of the page."""
    told = _told(number)
    return view.part("retraining_live.html", **told)


@blueprint.post("/retraining/<int:number>/cancel")
def cancel(number: int) -> Response:
    """End the run before its next batch, as ``radir retrain cancel``. What serves is not touched. Raises Conflict."""
    cancel_retraining(services().catalogue, services().settings.home, number)
    return view.after(url_for("admin_retraining.run", number=number, done="cancel"))


@blueprint.post("/retraining/<int:number>/resume")
def resume(number: int) -> Response:
    """Go on with a run that was killed or failed, as ``radir retrain --resume``. Raises Conflict."""
    retrain_command.resumed(number, services().settings)
    return view.after(url_for("admin_retraining.run", number=number, done="resume"))


@blueprint.get("/retraining/<int:number>/evidence")
def evidence(number: int) -> Response:
    """The page that is filed; it may show pictures of patients, whom it does not name. Raises NotFound."""
    page = RunFiles.of(services().settings, number).evidence
    if page is None:
        raise NotFound(f"retraining {number} has left no evidence")
    response = make_response(page.read_bytes())
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    response.headers["Cache-Control"] = "no-store"
    return response


def _plan() -> retrain_command.PlanForm:
    return retrain_command.PlanForm.of(view.field("kind", 10), view.field("depth", 10), view.field("plan", 20_000))


def _state(run: RetrainingRun) -> str:
    """STOPPED: nobody works at it, and it does not just begin."""
    begins = run.state == "PENDING" and datetime.now(UTC) - run.created_at < _BEGINS
    open_still = run.state in ("PENDING", "RUNNING")
    return "STOPPED" if open_still and not run.held and not begins else run.state


def _told(number: int) -> dict[str, Any]:
    context = services()
    found = context.catalogue.retraining.get(number)
    files = RunFiles.of(context.settings, number)
    drawn, last_step = curves(files.losses())
    state = _state(found)
    steps = context.catalogue.retraining.steps(number)
    return {
        "run": found,
        "steps": steps,
        "estimated_s": files.estimated_s,
        "took_s": sum(step.took_s or 0.0 for step in steps),
        "state": state,
        "ended": found.state in _ENDED,
        "resumable": state in ("STOPPED", "FAILED") and not found.cancel_asked,
        "gates": files.gates(),
        "promotions": [one | {"at": datetime.fromisoformat(one["at"])} for one in files.promotions()],
        "evidence": run_of,
        "examined": files.examination(),
        "has_evidence": files.evidence is not None,
        "curves": drawn,
        "last_step": last_step,
        "width": WIDTH,
        "height": HEIGHT,
        "log": printable(files.log_end()),
    }
