"""For systems that hand studies over: which instances of a study are held here, and how a job of theirs is going."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from radir_pacs.catalogue import JobProgress
from radir_pacs.errors import NotFound
from radir_pacs.types import JobKind

from .services import services

blueprint = Blueprint("handover", __name__)


@blueprint.get("/api/studies/<study>/instances")
def held(study: str) -> Response:
    """The SOP Instance UIDs held of a study; none for an unknown one. Whatever is listed is durable (P1)."""
    return jsonify({"study": study, "instances": services().catalogue.instances.sop_uids_of(study)})


@blueprint.get("/api/studies/<study>/jobs/<int:number>")
def job(study: str, number: int) -> Response:
    """How a pull of the study, or the sending of one of its reports, is going. Raises NotFound for other jobs."""
    found = services().catalogue.jobs.progress(number)
    if _study_of(found) != study:
        raise NotFound(f"the study has no job {number}")
    return jsonify(
        {
            "job": found.id,
            "kind": found.kind,
            "state": found.state,
            "attempt": found.attempt,
            "max_attempts": found.max_attempts,
            "reason_code": found.reason_code,
            "message": found.message,
        }
    )


def _study_of(found: JobProgress) -> str | None:
    if found.kind == JobKind.PULL:
        return found.key
    if found.kind == JobKind.SEND:
        return services().catalogue.instances.get(found.key).study_uid
    return None
