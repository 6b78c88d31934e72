"""WADO-RS: whole instances, metadata, frames, bulk data (PS3.18 10.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from flask import Blueprint, Response, current_app, request

from radir_pacs.catalogue import StoredInstance
from radir_pacs.errors import BlobDamaged, NotAcceptable, NotFound
from radir_pacs.web.services import services

from .accept import DICOM, EXPLICIT_LITTLE, asked_for, choose, multipart
from .frames import choose_form, frame_bodies, parse_frame_list
from .json_model import Attributes, ascending, choose_json
from .multipart import Body, MultipartWriter, OutgoingPart, chunks_of, size_of
from .stored import blob_of, instance_at, instances_at, url_of, whole_blob_of
from .transcode import can_transcode, explicit_little

blueprint = Blueprint("wado", __name__)

PIXEL_DATA = "7FE00010"


@blueprint.get("/studies/<study>")
@blueprint.get("/studies/<study>/series/<series>")
def retrieve(study: str, series: str | None = None) -> Response:
    """The instances of a study or series, as parts (WADO-RS)."""
    choose((multipart(DICOM),))
    return _many(instances_at(study, series))


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>")
def retrieve_instance(study: str, series: str, instance: str) -> Response:
    """One instance, as a part or alone (WADO-RS)."""
    offer, _ = choose((multipart(DICOM), DICOM))
    stored = instance_at(study, series, instance)
    if offer != DICOM:
        return _many([stored])
    syntax = _syntax_for(stored, _accepted_syntaxes())
    if syntax is None:
        raise NotAcceptable(f"the instance is available in transfer syntax {stored.transfer_syntax_uid}")
    return _single(_body(stored, syntax), f"{DICOM}; transfer-syntax={syntax}")


@blueprint.get("/studies/<study>/metadata")
@blueprint.get("/studies/<study>/series/<series>/metadata")
def metadata(study: str, series: str | None = None) -> Response:
    """Headers of the instances in a study or series (WADO-RS)."""
    media_type = choose_json()
    return _metadata(instances_at(study, series), media_type)


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/metadata")
def metadata_of_instance(study: str, series: str, instance: str) -> Response:
    """Header of an instance (WADO-RS)."""
    media_type = choose_json()
    return _metadata([instance_at(study, series, instance)], media_type)


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/frames/<frames>")
def retrieve_frames(study: str, series: str, instance: str, frames: str) -> Response:
    """Frames of an instance by number, from 1 on (WADO-RS)."""
    stored = instance_at(study, series, instance)
    numbers = parse_frame_list(frames, stored.frames)
    return _frames(stored, numbers, [f"{url_of(stored)}/frames/{number}" for number in numbers])


@blueprint.get(f"/studies/<study>/series/<series>/instances/<instance>/bulkdata/{PIXEL_DATA}")
def retrieve_pixel_data(study: str, series: str, instance: str) -> Response:
    """The pixel data that metadata points at: one part a frame."""
    stored = instance_at(study, series, instance)
    numbers = list(range(1, stored.frames + 1))
    return _frames(stored, numbers, [f"{url_of(stored)}/bulkdata/{PIXEL_DATA}"] * len(numbers))


def _accepted_syntaxes() -> list[str]:
    """Transfer syntaxes the request takes, best first; ``*`` is any. Unnamed means Explicit VR Little Endian for
    DICOM media types (PS3.18 8.7.3.5.2), and any for a client that takes everything."""
    accepted = []
    for asked in asked_for():
        if asked.admits(multipart(DICOM)) or asked.admits(DICOM):
            accepted.append(asked.transfer_syntax or ("*" if asked.name == "*/*" else EXPLICIT_LITTLE))
    return accepted


def _syntax_for(instance: StoredInstance, accepted: Sequence[str]) -> str | None:
    """The transfer syntax in which ``instance`` is answered, None when there is none."""
    for syntax in accepted:
        if syntax in ("*", instance.transfer_syntax_uid):
            return instance.transfer_syntax_uid
        if syntax == EXPLICIT_LITTLE and can_transcode(instance.transfer_syntax_uid, instance.size_bytes):
            return EXPLICIT_LITTLE
    return None


def _body(instance: StoredInstance, syntax: str) -> Body:
    path = whole_blob_of(instance)
    if syntax == instance.transfer_syntax_uid:
        return path
    decoder = services().decoder
    return lambda: explicit_little(path, instance.transfer_syntax_uid, decoder)


def _many(instances: Sequence[StoredInstance]) -> Response:
    """The instances as parts; 206 when some are damaged or not available as asked for."""
    accepted = _accepted_syntaxes()
    answered = [(instance, syntax) for instance in instances if (syntax := _syntax_for(instance, accepted))]
    if not answered:
        raise NotAcceptable("not available in the transfer syntax asked for; ask with transfer-syntax=*")
    parts = []
    for instance, syntax in answered:
        try:
            body = _body(instance, syntax)
        except BlobDamaged:
            if len(answered) == 1:
                raise
            continue
        content_type = f"{DICOM}; transfer-syntax={syntax}"
        parts.append(OutgoingPart(content_type=content_type, body=body, location=url_of(instance)))
    if not parts:
        raise BlobDamaged(answered[0][0].content_sha256)
    if len(parts) == 1 and callable(parts[0].body):  # made now, so that its failure is still a clear answer
        made = parts[0].body()
        parts = [OutgoingPart(content_type=parts[0].content_type, body=made, location=parts[0].location)]
    return _parts(parts, DICOM, status=200 if len(parts) == len(instances) else 206)


def _frames(stored: StoredInstance, numbers: list[int], locations: list[str]) -> Response:
    if not stored.rows_px:
        raise NotFound("the instance has no pixel data")
    form = choose_form(stored.transfer_syntax_uid, alone=len(numbers) == 1)
    bodies = frame_bodies(blob_of(stored), numbers, form, services().decoder)
    if not form.multipart:
        return _single(bodies[0], form.content_type)
    parts = [
        OutgoingPart(content_type=form.content_type, body=body, location=location)
        for body, location in zip(bodies, locations, strict=True)
    ]
    return _parts(parts, form.media_type)


def _parts(parts: Sequence[OutgoingPart], part_type: str, status: int = 200) -> Response:
    writer = MultipartWriter(parts, part_type)
    response = Response(iter(writer), status=status, content_type=writer.content_type)
    _declare(response, writer.content_length)
    return response


def _single(body: Body, content_type: str) -> Response:
    if callable(body):
        body = body()
    response = Response(chunks_of(body), content_type=content_type)
    _declare(response, size_of(body))
    return response


def _declare(response: Response, length: int | None) -> None:
    if length is not None:
        response.content_length = length


def _metadata(instances: Sequence[StoredInstance], media_type: str) -> Response:
    """Headers in the DICOM JSON model; pixel data stand as a URI (PS3.18 F.2.2). The ETag changes with any instance."""
    base_url = services().base_url
    named = "".join([base_url, media_type, *(instance.sop_uid + instance.content_sha256 for instance in instances)])
    response = Response(content_type=media_type)
    response.set_etag(hashlib.sha256(named.encode()).hexdigest()[:32])
    response.make_conditional(request)
    if response.status_code != 304:
        response.data = current_app.json.dumps([_header(instance) for instance in instances])
    return response


def _header(instance: StoredInstance) -> Attributes:
    attributes = dict(instance.attributes)
    attributes["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax_uid]}  # Available Transfer Syntax UID
    if instance.rows_px and PIXEL_DATA not in attributes:
        attributes[PIXEL_DATA] = {"vr": "OW", "BulkDataURI": f"{url_of(instance)}/bulkdata/{PIXEL_DATA}"}
    return ascending(attributes)
