"""WADO-RS: whole instances and frames (PS3.18 10.4)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from flask import Blueprint, Response, stream_with_context

from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.transfer_syntaxes import EXPLICIT_BIG, IMPLICIT_LITTLE
from radir_pacs.errors import BlobAway, BlobDamaged, NotAcceptable, NotFound, RadirError
from radir_pacs.web.services import services

from .accept import DICOM, EXPLICIT_LITTLE, asked_for, choose, multipart
from .frames import choose_form, frame_bodies, parse_frame_list
from .multipart import Body, MultipartWriter, OutgoingPart, chunks_of, size_of
from .stored import as_kept, blob_of, instance_at, instances_at, url_of, whole_blob_of
from .transcode import can_transcode, explicit_little

log = logging.getLogger(__name__)

blueprint = Blueprint("wado", __name__)

_NOT_FOR_THE_WEB = frozenset({IMPLICIT_LITTLE, EXPLICIT_BIG})


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
    return single_instance(stored, _accepted_syntaxes())


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/frames/<frames>")
def retrieve_frames(study: str, series: str, instance: str, frames: str) -> Response:
    """Frames of an instance by number, from 1 on (WADO-RS)."""
    stored = instance_at(study, series, instance)
    numbers = parse_frame_list(frames, stored.frames)
    return frames_response(stored, numbers, [f"{url_of(stored)}/frames/{number}" for number in numbers])


def single_instance(stored: StoredInstance, accepted: Sequence[str]) -> Response:
    """The instance alone, in the first of the ``accepted`` transfer syntaxes there is. Raises NotAcceptable."""
    stored = as_kept(stored)
    syntax = _syntax_for(stored, accepted)
    if syntax is None:
        raise NotAcceptable(f"the instance is available in transfer syntax {stored.transfer_syntax_uid}")
    part = instance_part(stored, syntax)
    return _single(part.body, part.content_type)


def _accepted_syntaxes() -> list[str]:
    """Transfer syntaxes the request takes, best first; ``*`` is any. Where none is named it is Explicit VR Little
    Endian (PS3.18 8.7.3.5.2), and whatever there is for a client that takes everything."""
    accepted = []
    for asked in asked_for():
        if asked.admits(multipart(DICOM)) or asked.admits(DICOM):
            accepted.append(asked.transfer_syntax or EXPLICIT_LITTLE)
            if asked.name == "*/*" and asked.transfer_syntax is None:
                accepted.append("*")
    return accepted


def _syntax_for(instance: StoredInstance, accepted: Sequence[str]) -> str | None:
    """The transfer syntax in which ``instance`` is answered, None when there is none.

    Implicit VR and big endian, which PS3.18 8.7.3.5.2 rules out, are sent only when asked for by UID.
    """
    stored = instance.transfer_syntax_uid
    for syntax in accepted:
        if syntax == stored or (syntax == "*" and stored not in _NOT_FOR_THE_WEB):
            return stored
        if syntax in (EXPLICIT_LITTLE, "*") and can_transcode(stored, instance.size_bytes):
            return EXPLICIT_LITTLE
    return None


def instance_part(instance: StoredInstance, syntax: str, *, may_fetch: bool = True) -> OutgoingPart:
    """The instance in that transfer syntax. Raises NotFound, BlobDamaged, DicomRefused."""
    path = whole_blob_of(instance, may_fetch=may_fetch)
    is_stored = syntax == instance.transfer_syntax_uid
    body: Body = path if is_stored else explicit_little(path, instance.transfer_syntax_uid, services().decoder)
    content_type = f"{DICOM}; transfer-syntax={syntax}"
    return OutgoingPart(content_type=content_type, body=body, location=url_of(instance))


def _many(instances: Sequence[StoredInstance]) -> Response:
    """The instances as parts; 206 when some are damaged or not available as asked for.

    Several that are not kept here are not fetched from the source PACS: their study is pulled, or not to be had here.
    """
    alone = len(instances) == 1
    instances = [as_kept(instances[0])] if alone else instances
    accepted = _accepted_syntaxes()
    answered = [(instance, syntax) for instance in instances if (syntax := _syntax_for(instance, accepted))]
    if not answered:
        raise NotAcceptable("not available in the transfer syntax asked for; ask with transfer-syntax=*")
    status = 200 if len(answered) == len(instances) else 206
    if len(answered) == 1:
        return _parts([instance_part(*answered[0], may_fetch=alone)], DICOM, status)
    if all(syntax == instance.transfer_syntax_uid for instance, syntax in answered):
        parts = list(_undamaged(answered))
        if not parts:
            raise BlobDamaged(answered[0][0].content_sha256)
        return _parts(parts, DICOM, status if len(parts) == len(answered) else 206)
    return _parts(_made_in_turn(answered), DICOM, status)


def _undamaged(answered: Sequence[tuple[StoredInstance, str]]) -> Iterator[OutgoingPart]:
    for instance, syntax in answered:
        try:
            yield instance_part(instance, syntax, may_fetch=False)
        except BlobAway:  # the whole study will be back
            raise
        except BlobDamaged:  # listed in `radir problems`; the others are delivered
            continue


def _made_in_turn(answered: Sequence[tuple[StoredInstance, str]]) -> Iterator[OutgoingPart]:
    """Parts that are decoded one at a time. One that cannot be decoded is sent as stored, and labelled so: a damaged
    instance must not take the rest of its study away."""
    for instance, syntax in answered:
        try:
            yield instance_part(instance, syntax, may_fetch=False)
        except (NotFound, BlobDamaged):
            continue  # deleted meanwhile, or damaged and listed in `radir problems`
        except RadirError as error:
            log.warning("sent as stored", extra={"sop_uid": instance.sop_uid, "code": error.code})
            yield instance_part(instance, instance.transfer_syntax_uid)


def frames_response(stored: StoredInstance, numbers: list[int], locations: list[str]) -> Response:
    """Frames of ``stored`` by number, with the place of each. Raises NotFound, NotAcceptable, DicomRefused."""
    if not stored.rows_px:
        raise NotFound("the instance has no pixel data")
    stored = as_kept(stored)
    form = choose_form(stored.transfer_syntax_uid, alone=len(numbers) == 1)
    bodies = frame_bodies(blob_of(stored), numbers, form, services().decoder)
    if not form.multipart:
        return _single(bodies[0], form.content_type)
    parts = [
        OutgoingPart(content_type=form.content_type, body=body, location=location)
        for body, location in zip(bodies, locations, strict=True)
    ]
    return _parts(parts, form.media_type)


def _parts(parts: Iterable[OutgoingPart], part_type: str, status: int = 200) -> Response:
    writer = MultipartWriter(parts, part_type)
    response = Response(stream_with_context(iter(writer)), status=status, content_type=writer.content_type)
    if isinstance(parts, Sequence):
        response.content_length = writer.length_of(parts)
    return response


def _single(body: Body, content_type: str) -> Response:
    response = Response(chunks_of(body), content_type=content_type)
    response.content_length = size_of(body)
    return response
