"""WADO-URI (PS3.18 chapter 9): one instance by query parameters, for clients that predate WADO-RS."""

from __future__ import annotations

import contextlib
import re

from flask import Blueprint, Response, request
from werkzeug.datastructures import ImmutableMultiDict

from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, NotAcceptable, NotFound
from radir_pacs.web import audit, scope_guard
from radir_pacs.web.services import services

from . import parameters
from .accept import DICOM, EXPLICIT_LITTLE, parse_accept
from .documents import document_response, offers_for
from .drawing import JPEG, PNG
from .rendered import VIEWPORT_PX, rendered_frame, rendered_instance
from .wado import single_instance

blueprint = Blueprint("wado_uri", __name__)

_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?\Z")
_UNSUPPORTED = (
    "anonymize",
    "presentationUID",
    "annotation",
)  # ignoring them would return the wrong thing


@blueprint.get("/wado")
def retrieve() -> Response:
    """One instance as an image, a document or a DICOM object (WADO-URI)."""
    if parameters.one("requestType") != "WADO":
        raise BadInput("requestType is WADO")
    for name in _UNSUPPORTED:
        if parameters.one(name):
            raise NotAcceptable(f"{name} is not supported")
    stored = _stored()
    offers = _offers(stored)
    asked = parameters.one("contentType")
    offer = _offer(offers, asked) if asked else offers[0]
    if offer == DICOM:
        return single_instance(stored, [parameters.one("transferSyntax") or EXPLICIT_LITTLE])
    frame = parameters.count("frameNumber", 0, low=1, high=parameters.OFFSET_MAX)
    _say_as_wado_rs(stored, offer)
    if offers_for(stored):
        return document_response(stored)
    uids = (stored.study_uid, stored.series_uid, stored.sop_uid)
    return rendered_frame(*uids, str(frame)) if frame else rendered_instance(*uids)


def _stored() -> StoredInstance:
    """The instance asked for. Study and series may be left out, as many clients do, but must not be wrong."""
    uids = {name: parameters.one(name) for name in ("studyUID", "seriesUID", "objectUID")}
    for name, uid in uids.items():
        if uid is None and name == "objectUID":
            raise BadInput("objectUID is missing")
        if uid is not None and not is_valid_uid(uid):
            raise BadInput(f"{name} is not a UID (PS3.5 9.1)")
    stored = None
    with contextlib.suppress(NotFound):
        stored = services().catalogue.instances.get(uids["objectUID"] or "")
    study_uid = stored.study_uid if stored is not None else ""
    is_admitted = study_uid in scope_guard.admitted([study_uid])  # asked either way, so that no time tells them apart
    if stored is None or not is_admitted:
        raise NotFound(f"there is no instance {uids['objectUID']}")
    if uids["studyUID"] not in (None, stored.study_uid) or uids["seriesUID"] not in (None, stored.series_uid):
        raise NotFound("there is no such instance in this series")
    audit.note_opened(stored.study_uid)
    return stored


def _offers(stored: StoredInstance) -> tuple[str, ...]:
    """The media types available, the default of PS3.18 9.1 first."""
    if documents := offers_for(stored):
        return (*documents, DICOM)
    if not stored.rows_px:
        return (DICOM,)
    return (DICOM, JPEG, PNG) if stored.frames > 1 and not parameters.one("frameNumber") else (JPEG, PNG, DICOM)


def _offer(offers: tuple[str, ...], asked: str) -> str:
    """The best offer among the content types asked for; ``image/jpg``, a common mistake, means JPEG."""
    for media_range in parse_accept(asked.replace(" ", "+").replace(",+", ",").replace("image/jpg", JPEG)):
        for offer in offers:
            if media_range.admits(offer):
                return offer
    raise NotAcceptable(f"available here: {', '.join(offers)}")


def _say_as_wado_rs(stored: StoredInstance, offer: str) -> None:
    """Replace the query by the equivalent parameters of WADO-RS (PS3.18 8.3.5), which the renderer reads."""
    said = {"accept": offer}
    if viewport := _viewport(stored):
        said["viewport"] = viewport
    centre, width = parameters.one("windowCenter"), parameters.one("windowWidth")
    if (centre is None) != (width is None):
        raise BadInput("windowCenter and windowWidth come together")
    if centre is not None and width is not None:
        said["window"] = f"{_number('windowCenter', centre)},{_number('windowWidth', width)},linear"
    if quality := parameters.one("imageQuality"):
        said["quality"] = quality
    request.args = ImmutableMultiDict(said)


def _viewport(stored: StoredInstance) -> str | None:
    """``rows``, ``columns`` and ``region`` (left, top, right, bottom, each from 0 to 1) as a viewport."""
    sides = {name: parameters.one(name) for name in ("columns", "rows")}
    region = parameters.one("region")
    if region is None and not any(sides.values()):
        return None
    x0, y0, x1, y1 = _region(region)
    columns, rows = stored.columns_px or 1, stored.rows_px or 1
    whole = {"columns": (x1 - x0) * columns, "rows": (y1 - y0) * rows}
    wide, high = (
        parameters.count(name, max(1, round(whole[name])) if region else VIEWPORT_PX, low=1, high=VIEWPORT_PX)
        for name in sides
    )
    viewport = f"{min(wide, VIEWPORT_PX)},{min(high, VIEWPORT_PX)}"
    if region is None:
        return viewport
    return f"{viewport},{x0 * columns:g},{y0 * rows:g},{whole['columns']:g},{whole['rows']:g}"


def _region(written: str | None) -> tuple[float, float, float, float]:
    if written is None:
        return 0.0, 0.0, 1.0, 1.0
    pieces = written.split(",")
    ends = [float(piece) if _NUMBER.match(piece) else -1.0 for piece in pieces]
    if len(ends) != 4 or not (0 <= ends[0] < ends[2] <= 1 and 0 <= ends[1] < ends[3] <= 1):
        raise BadInput("region is left,top,right,bottom, each from 0 to 1")
    return ends[0], ends[1], ends[2], ends[3]


def _number(name: str, written: str) -> str:
    if not _NUMBER.match(written):
        raise BadInput(f"{name} is not a number")
    return written
