"""What a reader does with an answer: judge a case with thumbs up or down, and save the report to the PACS."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from radir_pacs import anatomy
from radir_pacs.delivery.destination import Destination
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.similar_cases import Feedback
from radir_pacs.types import JobKind
from radir_pacs.web import audit, context_rights, scope_guard
from radir_pacs.web.dicomweb.similar import SOURCE, query_of, stored_report
from radir_pacs.web.paths import job_url
from radir_pacs.web.services import services

blueprint = Blueprint("judgements", __name__)

_TEXTS = {"reason": 500, "reader": 64, "verdict": 4, "generation": 100, "region": 100, "model": 200}


@blueprint.post("/api/studies/<study>/feedback")
def judge(study: str) -> tuple[str, int]:
    """Store a verdict (UP or DOWN; an empty one withdraws it) on a similar case.

    Raises BadInput, NotFound; for a sidebar's token NotInThisLink, TooLarge.
    """
    body: Any = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadInput("the body is a JSON object")
    texts = {name: _text(body, name, most) for name, most in _TEXTS.items()}
    case = body.get("case")
    if not isinstance(case, str) or not is_valid_uid(case):
        raise BadInput("case is not a Study Instance UID")
    scope_guard.require(case)
    context_rights.require_may_judge(services().catalogue, case)
    rank, score = body.get("rank"), body.get("score")
    if (
        not isinstance(rank, int)
        or not isinstance(score, int | float)
        or isinstance(rank, bool)
        or isinstance(score, bool)
    ):
        raise BadInput("rank and score are numbers")
    try:
        feedback = Feedback(
            query_study_uid=study,
            case_study_uid=case,
            region=anatomy.region(texts["region"]).key,
            model_id=texts["model"],
            generation=texts["generation"] or None,
            rank=rank,
            score=float(score),
            verdict=texts["verdict"],
            reason=texts["reason"],
            reader=context_rights.reader(texts["reader"]),
        )
    except (ValueError, OverflowError) as error:
        raise BadInput(str(error)) from None
    services().catalogue.feedback.add(feedback)
    return "", 204


@blueprint.get("/api/studies/<study>/feedback/<reader>")
def judged(study: str, reader: str) -> Response:
    """The verdicts that this reader has given on cases similar to the study."""
    rows = services().catalogue.feedback.of_reader(study, context_rights.reader(reader))
    seen = scope_guard.admitted([row.case_study_uid for row in rows])
    return jsonify(
        [
            {"case": row.case_study_uid, "region": row.region, "verdict": row.verdict, "reason": row.reason}
            for row in rows
            if row.case_study_uid in seen
        ]
    )


@blueprint.post("/api/studies/<study>/report")
def report(study: str) -> tuple[Response, int]:
    """Store the structured report of the query and have it sent to ``return_destination``.

    Sending is a job: 202 says where to ask how it went. The report stays here whatever the destination does.
    Raises TooLarge when a sidebar's token has saved as many as it may.
    """
    context = services()
    context_rights.require_room_for_a_report(context.catalogue, SOURCE)
    query, _ = query_of(study)
    answer = context.searcher.similar(query, audit.caller())
    if not answer.cases:
        raise NotFound("there is no case to report")
    document, url = stored_report(answer)
    result: dict[str, Any] = {"stored": url, "destination": None, "job": None, "job_url": None}
    if not context.settings.return_destination:
        return jsonify(result), 201
    sop_uid = str(document.SOPInstanceUID)
    job = context.catalogue.jobs.enqueue(JobKind.SEND, sop_uid, context.settings.return_attempts)
    result["destination"] = Destination.parse(context.settings.return_destination).ae_title
    result |= {"job": job, "job_url": job_url(study, job)}
    response = jsonify(result)
    response.headers["Location"] = job_url(study, job)
    return response, 202


def _text(body: dict[str, Any], name: str, most: int) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most:
        raise BadInput(f"{name} is a text of at most {most} characters")
    return value
