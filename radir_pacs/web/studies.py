"""What a PACS or an administrator does with a study, and the state of things; no answer here names a patient."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime

from flask import Blueprint, Response, jsonify

from radir_pacs.errors import NotFound
from radir_pacs.types import JobKind, StudyState
from radir_pacs.web.dicomweb.accept import JSON

from . import audit
from .paths import job_url
from .services import BASE, services

blueprint = Blueprint("studies", __name__)


@blueprint.post(f"{BASE}/studies/<study>/complete")
def complete(study: str) -> tuple[Response, int]:
    """Declare the study complete, so that it is encoded now. Asking again changes nothing."""
    catalogue = services().catalogue
    started = catalogue.studies.complete_now(study)
    state = StudyState.STABLE if started else catalogue.studies.get(study).state
    return jsonify({"study": study, "state": state, "started": started}), 202


@blueprint.post(f"{BASE}/studies/<study>/pull")
def pull(study: str) -> tuple[Response, int]:
    """Fetch the study from the PACS that ``pull_url`` names, and encode it. Asking again fetches what is new."""
    context = services()
    if not context.settings.pull_url:
        raise NotFound("no PACS is set to pull studies from")
    job = context.catalogue.jobs.enqueue(JobKind.PULL, study)
    return jsonify({"study": study, "job": job, "job_url": job_url(study, job)}), 202


@blueprint.delete(f"{BASE}/studies/<study>")
def delete(study: str) -> tuple[str, int]:
    """Delete the study: it leaves every answer at once, its files follow."""
    context = services()
    for sha256 in context.catalogue.studies.delete(study):
        context.blobs.delete(sha256)
    return "", 204


@blueprint.get(f"{BASE}/studies/<study>/state")
def state(study: str) -> Response:
    """The study's state, with the reason where it will not be encoded (P3)."""
    found = services().catalogue.studies.get(study)
    return jsonify(
        {
            "study": study,
            "state": found.state,
            "reason": found.reason,
            "reason_code": found.reason_code,
            "instances": found.instance_count,
        }
    )


@blueprint.get("/status")
def status() -> Response:
    """Processes, studies by state, jobs: what ``radir status`` shows."""
    return Response(
        json.dumps(asdict(services().catalogue.overview(audit.caller().scope)), default=_iso), content_type=JSON
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat()
