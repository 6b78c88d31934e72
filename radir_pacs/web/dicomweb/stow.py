"""STOW-RS (PS3.18 10.5): instances in, each kept or refused on its own, success only when it is durable (P1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from flask import Blueprint, Response, request

from radir_pacs.dicom.header import read_header
from radir_pacs.errors import BadInput, DicomRefused, RadirError, StorageFailed, TooLarge
from radir_pacs.intake.instances import CONFLICT, StoreOutcome
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import IncomingBlob
from radir_pacs.web.errors import error_response
from radir_pacs.web.services import services

from .accept import DICOM, DICOM_JSON, JSON, choose, parse_media_type
from .json_model import Attributes, ascending, element, json_response
from .multipart import BrokenMultipart, MultipartReader, Part
from .native_xml import MEDIA_TYPE as DICOM_XML
from .native_xml import to_xml

blueprint = Blueprint("stow", __name__)

SOURCE = "stow"
PARTS_MAX = 20_000
_CHUNK_BYTES = 256 * 1024

# Failure Reason (PS3.18 table 10.5.3-1, PS3.3 C.14): C-STORE statuses as they are, save those of our own.
_PROCESSING_FAILURE, _DUPLICATE = 0x0110, 0x0111


@blueprint.post("/studies")
@blueprint.post("/studies/<study>")
def store(study: str | None = None) -> Response:
    """Store instances, with the study in the path of that study only (STOW-RS)."""
    media_type, _ = choose((DICOM_JSON, JSON, DICOM_XML))
    sent = parse_media_type(request.headers.get("Content-Type", "") or "a/b")
    if sent.name == "multipart/related" and sent.part in (DICOM, None):
        parts: Iterator[Part] = iter(MultipartReader(request.stream, sent.parameters.get("boundary", "")))
    elif sent.name == DICOM:
        parts = iter([Part(headers={}, body=_chunks(request.stream))])
    else:
        return error_response(415, "unsupported_media_type", f'send multipart/related; type="{DICOM}"')
    outcomes = _store_all(parts, study)
    kept = sum(outcome.ok for outcome in outcomes)
    status = 200 if kept == len(outcomes) else 202 if kept else 409
    answer = _response_module(outcomes, study)
    if media_type == DICOM_XML:
        return Response(to_xml(answer), status=status, content_type=DICOM_XML)
    return json_response(answer, media_type, status)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _store_all(parts: Iterator[Part], study: str | None) -> list[StoreOutcome]:
    """One outcome a part. Raises BrokenMultipart when the body breaks before any part is whole."""
    outcomes: list[StoreOutcome] = []
    try:
        for part in parts:
            if len(outcomes) >= PARTS_MAX:
                raise TooLarge(f"more than {PARTS_MAX} instances in one request")
            outcomes.append(_store_one(part, study))
    except BrokenMultipart as error:
        if not outcomes:
            raise
        # What came before is stored and is said to be; the sender must not lose sight of the rest.
        outcomes.append(services().intake.refuse(error, source=SOURCE, sop_uid=None))
    if not outcomes:
        raise BadInput("the request has no instance in it")
    return outcomes


def _store_one(part: Part, study: str | None) -> StoreOutcome:
    context = services()
    sop_uid: str | None = None
    try:
        sent_as = parse_media_type(part.headers.get("content-type", DICOM))
        if sent_as.name != DICOM:
            raise BadInput("a part is not application/dicom")
        with context.blobs.incoming() as incoming:
            _receive(part, incoming, context.settings.max_instance_mib << 20)
            if study is not None:
                header = read_header(incoming.path)
                sop_uid = header.sop_uid
                if header.study_uid != study:
                    raise DicomRefused(
                        "the instance belongs to another study than the path names", reason_code=ReasonCode.MISMATCH
                    )
            return context.intake.store(incoming, source=SOURCE)
    except BrokenMultipart:
        raise
    except RadirError as error:
        return context.intake.refuse(error, source=SOURCE, sop_uid=sop_uid)


def _receive(part: Part, incoming: IncomingBlob, most_bytes: int) -> None:
    """The body of ``part`` into a file on the disk, a chunk at a time. Raises TooLarge, StorageFailed."""
    services().intake.check_room()
    size = 0
    for chunk in part.body:
        size += len(chunk)
        if size > most_bytes:
            raise TooLarge(f"the instance is larger than {most_bytes >> 20} MiB")
        try:
            incoming.write(chunk)
        except OSError as error:
            raise StorageFailed("the disk refused the instance") from error


def _response_module(outcomes: list[StoreOutcome], study: str | None) -> Attributes:
    """Store Instances Response Module (PS3.18 table 10.5.3-1)."""
    base_url = services().base_url
    studies = {outcome.study_uid for outcome in outcomes if outcome.ok}
    named = study or (studies.pop() if len(studies) == 1 else None)
    failed = [_reference(o) | {"00081197": element("US", _reason(o))} for o in outcomes if not o.ok and o.sop_uid]
    nameless = [{"00081197": element("US", _reason(o))} for o in outcomes if not o.ok and not o.sop_uid]
    kept = [_reference(o) | {"00081190": element("UR", f"{base_url}/{_path(o)}")} for o in outcomes if o.ok]
    module = {
        "00081190": element("UR", f"{base_url}/studies/{named}" if named else None),
        "00081198": element("SQ", *map(ascending, failed)),
        "00081199": element("SQ", *map(ascending, kept)),
        "0008119A": element("SQ", *nameless),
    }
    return {tag: found for tag, found in module.items() if tag == "00081190" or "Value" in found}


def _reference(outcome: StoreOutcome) -> Attributes:
    return {
        "00081150": element("UI", outcome.sop_class_uid),
        "00081155": element("UI", outcome.sop_uid),
    }


def _path(outcome: StoreOutcome) -> str:
    return f"studies/{outcome.study_uid}/series/{outcome.series_uid}/instances/{outcome.sop_uid}"


def _reason(outcome: StoreOutcome) -> int:
    return _DUPLICATE if outcome.status == CONFLICT else outcome.status or _PROCESSING_FAILURE
