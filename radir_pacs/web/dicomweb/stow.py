"""STOW-RS (PS3.18 10.5): instances in, each kept or refused on its own, success only when it is durable (P1)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, current_app, request

from radir_pacs.dicom.announced import announced_uids
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, DicomRefused, RadirError, StorageFailed, TooLarge
from radir_pacs.intake.instances import CONFLICT, StoreOutcome
from radir_pacs.logs import trace_of
from radir_pacs.multipart import MOST_PARTS, BrokenMultipart, MimePart, MultipartReader, Source
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import IncomingBlob
from radir_pacs.types import InstanceHeader
from radir_pacs.web import audit, scope_guard
from radir_pacs.web.content_coding import body_stream
from radir_pacs.web.errors import error_response
from radir_pacs.web.services import services

from .accept import DICOM, DICOM_JSON, JSON, choose, parse_media_type
from .bulk_parts import BulkParts
from .from_metadata import write_instance
from .json_model import Attributes, ascending, element, json_response
from .native_xml import MEDIA_TYPE as DICOM_XML
from .native_xml import from_xml, to_xml

log = logging.getLogger(__name__)

blueprint = Blueprint("stow", __name__)

SOURCE = "stow"
METADATA_BYTES = 8 << 20  # of one request; in memory it takes some twenty times as much
_CHUNK_BYTES = 256 * 1024
_COMMENT_CHARACTERS = 64  # LO
_METADATA = frozenset({DICOM_JSON, JSON, DICOM_XML})

# Failure Reason (PS3.18 table 10.5.3-1, PS3.3 C.14): C-STORE statuses, except for our own.
_PROCESSING_FAILURE, _DUPLICATE = 0x0110, 0x0111


@blueprint.post("/studies")
@blueprint.post("/studies/<study>")
def store(study: str | None = None) -> Response:
    """Store instances; with a study in the path, only instances of that study (STOW-RS)."""
    media_type, _ = choose((DICOM_JSON, JSON, DICOM_XML))
    sent = parse_media_type(request.headers.get("Content-Type", "") or "a/b")
    body = body_stream(services().settings.max_request_mib << 20)
    kind = sent.part or DICOM if sent.name == "multipart/related" else sent.name
    if kind not in {DICOM} | _METADATA:
        offers = ", ".join((DICOM, DICOM_JSON, DICOM_XML))
        return error_response(415, "unsupported_media_type", f"send {offers}, alone or as multipart/related")
    if request.content_length == 0:
        raise BadInput("the request has no body")
    if sent.name == "multipart/related":
        parts = iter(MultipartReader(body, sent.parameters.get("boundary", "")))
    else:
        parts = iter([MimePart(headers={"content-type": kind}, body=_chunks(body))])
    outcomes = _store_metadata(parts, study) if kind in _METADATA else _store_all(parts, study)
    kept = sum(outcome.ok for outcome in outcomes)
    for study_uid in sorted({outcome.study_uid for outcome in outcomes if outcome.ok}):
        log.info("study arrives", extra={"trace": trace_of(study_uid)})
    audit.note_stored([outcome.study_uid for outcome in outcomes if outcome.ok])
    status = 200 if kept == len(outcomes) else 202 if kept else 409
    answer = _response_module(outcomes, study)
    if media_type == DICOM_XML:
        return Response(to_xml(answer), status=status, content_type=DICOM_XML)
    return json_response(answer, media_type, status)


def _chunks(stream: Source) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _store_all(parts: Iterator[MimePart], study: str | None) -> list[StoreOutcome]:
    """One outcome per part. Raises BadInput when the body breaks before any part is complete."""
    outcomes: list[StoreOutcome] = []
    try:
        for part in parts:
            outcomes.append(_store_one(part, study))
    except BadInput as error:  # a broken or damaged body, or too much of it
        if not outcomes:
            raise
        # What came before is stored and reported as such; the sender must also learn that the rest is missing.
        outcomes.append(services().intake.refuse(error, source=SOURCE, sop_uid=None))
    if not outcomes:
        raise BadInput("the request has no instance in it")
    return outcomes


def _store_one(part: MimePart, study: str | None) -> StoreOutcome:
    context = services()
    with context.blobs.incoming() as incoming:
        try:
            sent_as = parse_media_type(part.headers.get("content-type", DICOM))
            if sent_as.name != DICOM:
                raise BadInput("a part is not application/dicom")
            _receive(part, incoming, context.settings.max_instance_mib << 20)
        except BrokenMultipart:
            raise
        except RadirError as error:
            return _named(context.intake.refuse(error, source=SOURCE, sop_uid=None), incoming)
        return _keep(incoming, study)


def _keep(incoming: IncomingBlob, study: str | None) -> StoreOutcome:
    """Store the file in ``incoming``, which must belong to ``study`` when that is given."""
    intake = services().intake
    header: InstanceHeader | None = None
    try:
        scope = audit.caller().scope
        if study is not None or scope.confines:
            header = read_header(incoming.path)
            if study is not None and header.study_uid != study:
                raise DicomRefused(
                    "the instance belongs to another study than the path names", reason_code=ReasonCode.MISMATCH
                )
            scope_guard.require_may_store(header.study_uid)
        outcome = intake.store(incoming, source=SOURCE, site=scope.site)
    except RadirError as error:
        sop_uid = header.sop_uid if header else None
        outcome = intake.refuse(error, source=SOURCE, sop_uid=sop_uid, header=header)
    return outcome if outcome.ok else _named(outcome, incoming)


def _named(outcome: StoreOutcome, incoming: IncomingBlob) -> StoreOutcome:
    """A failure with both UIDs, as far as the file reveals them: the sender needs them to find what was not stored."""
    if outcome.sop_uid and outcome.sop_class_uid:
        return outcome
    try:
        sop_class_uid, sop_uid = announced_uids(incoming.path)
    except (OSError, ValueError):  # the file is already gone
        return outcome
    return replace(outcome, sop_class_uid=outcome.sop_class_uid or sop_class_uid, sop_uid=outcome.sop_uid or sop_uid)


def _store_metadata(parts: Iterator[MimePart], study: str | None) -> list[StoreOutcome]:
    """One outcome for each data set. Nothing is stored until the whole body has arrived, since bulk data come last.

    Raises BadInput, BrokenMultipart, TooLarge, StorageFailed.
    """
    context = services()
    with context.blobs.incoming() as spool:
        context.intake.check_room()
        bulk = BulkParts(spool=spool, left_bytes=context.settings.max_request_mib << 20)
        data_sets = _read_metadata(parts, bulk)
        if not data_sets:
            raise BadInput("the request has no instance in it")
        if len(data_sets) > MOST_PARTS:
            raise TooLarge(f"more than {MOST_PARTS} instances in one request")
        return [_store_described(attributes, bulk, study) for attributes in data_sets]


def _read_metadata(parts: Iterator[MimePart], bulk: BulkParts) -> list[Any]:
    """The data sets that the ``parts`` describe, in the DICOM JSON model; other parts go to ``bulk``."""
    data_sets: list[Any] = []
    left_bytes = METADATA_BYTES
    for part in parts:
        kind = parse_media_type(part.headers.get("content-type", "a/b")).name
        if kind not in _METADATA:
            bulk.add(part)
            continue
        text = bytearray()
        for chunk in part.body:
            text += chunk
            if len(text) > left_bytes:
                raise TooLarge(f"the metadata are larger than {METADATA_BYTES >> 20} MiB")
        left_bytes -= len(text)
        data_sets += [from_xml(bytes(text))] if kind == DICOM_XML else _from_json(bytes(text))
    return data_sets


def _from_json(text: bytes) -> list[Any]:
    """One data set, or an array of them."""
    try:
        found = current_app.json.loads(text)
    except ValueError as error:
        raise BadInput("the metadata are no JSON, or nested too deeply") from error
    return found if isinstance(found, list) else [found]


def _store_described(attributes: Any, bulk: BulkParts, study: str | None) -> StoreOutcome:
    context = services()
    with context.blobs.incoming() as incoming:
        try:
            write_instance(attributes, bulk, incoming)
            if incoming.size_bytes > context.settings.max_instance_mib << 20:
                raise TooLarge(f"the instance is larger than {context.settings.max_instance_mib} MiB")
        except RadirError as error:
            sop_class_uid, sop_uid = (_uid(attributes, tag) for tag in ("00080016", "00080018"))
            outcome = context.intake.refuse(error, source=SOURCE, sop_uid=sop_uid or None)
            return replace(outcome, sop_class_uid=sop_class_uid)
        return _keep(incoming, study)


def _uid(attributes: Any, tag: str) -> str:
    """A UID of metadata that may be malformed anywhere."""
    try:
        uid = attributes[tag]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return ""
    return uid if isinstance(uid, str) and is_valid_uid(uid) else ""


def _receive(part: MimePart, incoming: IncomingBlob, most_bytes: int) -> None:
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
    failed = [_reference(o) | _failure(o) for o in outcomes if not o.ok and o.sop_uid]
    nameless = [_failure(o) for o in outcomes if not o.ok and not o.sop_uid]
    kept = [_reference(o) | {"00081190": element("UR", f"{base_url}/{_path(o)}")} for o in outcomes if o.ok]
    module = {
        "00081190": element("UR", f"{base_url}/studies/{named}" if named else None),
        "00081198": element("SQ", *map(ascending, failed)),
        "00081199": element("SQ", *map(ascending, kept)),
        "0008119A": element("SQ", *map(ascending, nameless)),
    }
    return {tag: found for tag, found in module.items() if tag == "00081190" or "Value" in found}


def _failure(outcome: StoreOutcome) -> Attributes:
    """Failure Reason, and the same in words as the Error Comment of a C-STORE response (PS3.7 C.1)."""
    return {
        "00000902": element("LO", outcome.reason[:_COMMENT_CHARACTERS]),
        "00081197": element("US", _reason(outcome)),
    }


def _reference(outcome: StoreOutcome) -> Attributes:
    return {
        "00081150": element("UI", outcome.sop_class_uid),
        "00081155": element("UI", outcome.sop_uid),
    }


def _path(outcome: StoreOutcome) -> str:
    return f"studies/{outcome.study_uid}/series/{outcome.series_uid}/instances/{outcome.sop_uid}"


def _reason(outcome: StoreOutcome) -> int:
    return _DUPLICATE if outcome.status == CONFLICT else outcome.status or _PROCESSING_FAILURE
