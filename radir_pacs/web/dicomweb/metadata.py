"""Headers of instances, and the large values they refer to (PS3.18 10.4.1.1.2, 10.4.1.1.5)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.datastructures import ContentRange

from radir_pacs import __version__
from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.bulk_data import PIXEL_DATA, Span, find_bulk_data, placed
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.limits import MIB, ReadLimits
from radir_pacs.errors import RadirError
from radir_pacs.web.services import services

from .accept import OCTETS, choose, multipart
from .datasets import choose_datasets, datasets_response
from .json_model import Attributes, ascending
from .multipart import Body, FileSlice, MultipartWriter, OutgoingPart, chunks_of, size_of
from .stored import blob_of, instance_at, instances_at, url_of
from .wado import frames_response

blueprint = Blueprint("metadata", __name__)

_LIMITS = ReadLimits(elements=500_000, kept_bytes=32 * MIB)  # of a header with functional groups for every frame
_PIXELS = frozenset({PIXEL_DATA, "7FE00008", "7FE00009"})
_PER_FRAME_GROUPS = "52009230"
_CHARACTER_SET = "00080005"
_UTF8 = {"vr": "CS", "Value": ["ISO_IR 192"]}


@blueprint.get("/studies/<study>/metadata")
@blueprint.get("/studies/<study>/series/<series>/metadata")
def metadata(study: str, series: str | None = None) -> Response:
    """Headers of the instances in a study or series (WADO-RS)."""
    form = choose_datasets()
    return _metadata(instances_at(study, series), form)


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/metadata")
def metadata_of_instance(study: str, series: str, instance: str) -> Response:
    """Header of an instance (WADO-RS)."""
    form = choose_datasets()
    return _metadata([instance_at(study, series, instance)], form)


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/bulkdata/<path:where>")
def bulk_data(study: str, series: str, instance: str, where: str) -> Response:
    """A large value that metadata refers to; pixel data come as one part per frame (WADO-RS)."""
    stored = instance_at(study, series, instance)
    if where.upper() == PIXEL_DATA:
        numbers = list(range(1, stored.frames + 1))
        return frames_response(stored, numbers, [f"{url_of(stored)}/bulkdata/{PIXEL_DATA}"] * len(numbers))
    form, _ = choose((multipart(OCTETS), OCTETS))
    path = blob_of(stored)
    found = find_bulk_data(path, where)
    body: Body = FileSlice(path=path, offset=found.offset, length=found.length) if isinstance(found, Span) else found
    if form == OCTETS:
        return _octets(body)
    location = f"{url_of(stored)}/bulkdata/{where.upper()}"
    writer = MultipartWriter([OutgoingPart(content_type=OCTETS, body=body, location=location)], OCTETS)
    return Response(iter(writer), content_type=writer.content_type)


def _octets(body: Body) -> Response:
    """The value, or the single range of it that the request asks for (RFC 9110 14)."""
    size = size_of(body)
    first, end, status = 0, size, 200
    if request.range is not None and (found := request.range.range_for_length(size)) is not None:
        (first, end), status = found, 206
    match body:
        case bytes():
            body = body[first:end]
        case FileSlice(path=path, offset=offset):
            body = FileSlice(path=path, offset=offset + first, length=end - first)
    response = Response(chunks_of(body), status=status, content_type=OCTETS)
    response.content_length = end - first
    response.accept_ranges = "bytes"
    if status == 206:
        response.content_range = ContentRange("bytes", first, end, size)
    return response


def _metadata(instances: Sequence[StoredInstance], form: str) -> Response:
    """The ETag changes with any of the instances."""
    named = [__version__, services().base_url, form, *(i.sop_uid + i.content_sha256 for i in instances)]
    etag = hashlib.sha256("\0".join(named).encode()).hexdigest()[:32]
    asked = Response(content_type=form)
    asked.set_etag(etag)
    asked.headers["Vary"] = "Accept"
    asked.make_conditional(request)
    if asked.status_code == 304:
        return asked
    response = datasets_response([partial(_header, instance) for instance in instances], form)
    response.set_etag(etag)
    response.headers["Vary"] = "Accept"
    return response


def _header(instance: StoredInstance) -> Attributes:
    """Every attribute, with UTF-8 as its character set (PS3.18 F.2) and URIs for values that are left out."""
    bulk_data_url = f"{url_of(instance)}/bulkdata/"
    attributes = _utf8(placed(_complete(instance), lambda where: bulk_data_url + where))
    attributes[_CHARACTER_SET] = _UTF8
    attributes["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax_uid]}  # Available Transfer Syntax UID
    return ascending(attributes)


def _complete(instance: StoredInstance) -> Mapping[str, Any]:
    """The header in the catalogue, or the one in the file when that of the catalogue is incomplete.

    It is incomplete when an earlier release stored it, without URIs of bulk data, or when the functional groups were
    larger than the limits for storing. A file that cannot be read takes nothing away from what is known.
    """
    kept = instance.attributes
    is_whole = instance.rows_px and _PIXELS & kept.keys() and (instance.frames == 1 or _PER_FRAME_GROUPS in kept)
    if is_whole:
        return kept
    try:
        return read_header(blob_of(instance, may_fetch=False), _LIMITS).attributes
    except (RadirError, OSError):
        return kept


def _utf8(attributes: Mapping[str, Any]) -> Attributes:
    """``attributes`` with UTF-8 as Specific Character Set, in sequence items as well."""
    made: Attributes = {}
    for tag, found in attributes.items():
        if tag == _CHARACTER_SET:
            made[tag] = _UTF8
        elif found.get("vr") == "SQ" and "Value" in found:
            made[tag] = {**found, "Value": [_utf8(item) for item in found["Value"]]}
        else:
            made[tag] = found
    return made
