"""FHIR: reports pushed to us as DiagnosticReport, by create or update; answers are OperationOutcomes."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, request

from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Received
from radir_pacs.errors import BadInput, RadirError, TooLarge
from radir_pacs.intake.fhir import read_diagnostic_report

from . import audit
from .services import services

blueprint = Blueprint("fhir", __name__)

MEDIA_TYPE = "application/fhir+json"
MOST_BYTES = 32 << 20
_MEDIA_TYPES = frozenset({MEDIA_TYPE, "application/json", "application/json+fhir"})
_SAID = {
    Received.NEW: "stored",
    Received.REPLACED: "stored; it replaces the version before",
    Received.SAME: "this version was here already",
    Received.LATE: "stored; a later version holds",
    Received.WITHDRAWN: "the report is withdrawn",
    Received.WAITING: "stored; it waits for its study",
}
_CODES = {400: "structure", 413: "too-long", 415: "not-supported", 422: "business-rule", 503: "transient"}


@blueprint.post("/fhir/DiagnosticReport")
def create() -> Response:
    """Take a report; 201 when it is committed (FHIR R4 3.1.0.8)."""
    return _take()


@blueprint.put("/fhir/DiagnosticReport/<name>")
def update(name: str) -> Response:
    """Take a new version of a report (FHIR R4 3.1.0.4)."""
    return _take()


def _take() -> Response:
    if request.mimetype not in _MEDIA_TYPES:
        return outcome(415, f"send {MEDIA_TYPE}")
    request.max_content_length = MOST_BYTES
    context = services()
    try:
        context.intake.check_room()
        try:
            resource = current_app.json.loads(request.get_data())
        except ValueError:
            return outcome(400, "the body is no JSON, or nested too deeply")
        scope = audit.caller().scope
        versions = read_diagnostic_report(resource, sender=f"fhir/{scope.site}" if scope.site else "fhir")
        if not versions:
            return outcome(200, "the report is only registered; nothing is stored", severity="information")
        said: dict[Received, None] = {}  # of each study that it names
        for received, study_uid in context.catalogue.report_versions.receive_within(versions, scope):
            context.catalogue.audit.note(AuditEvent.STORED, audit.caller(), study_uid, outcome=received)
            said[received] = None
    except TooLarge as error:
        return outcome(413, str(error))
    except BadInput as error:
        return outcome(422, str(error))
    except RadirError as error:
        return outcome(503 if error.http_status >= 500 else error.http_status, str(error))
    new = not said.keys().isdisjoint((Received.NEW, Received.WAITING))
    return outcome(201 if new else 200, "; ".join(_SAID[received] for received in said), severity="information")


def outcome(status: int, message: str, *, severity: str = "error") -> Response:
    """An OperationOutcome with one issue."""
    code = "informational" if severity == "information" else _CODES.get(status, "processing")
    issue = {"severity": severity, "code": code, "diagnostics": message}
    body = current_app.json.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
    return Response(body, status=status, content_type=MEDIA_TYPE)
