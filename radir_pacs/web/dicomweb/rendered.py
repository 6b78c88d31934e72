"""Rendered pictures (PS3.18 10.4.1.1.3, 8.3.5): what is asked for, and the answer; `drawing.py` draws.

A series or study is answered by one representative picture, not by all of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

from flask import Blueprint, Response, request

from radir_pacs.catalogue import StoredInstance
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.web.services import services

from . import parameters
from .accept import choose
from .documents import document_response, offers_for
from .drawing import JPEG, PNG, Rendering, Source, draw, encode
from .frames import parse_frame_list
from .representative import representative
from .stored import blob_of, instance_at, instances_at

blueprint = Blueprint("rendered", __name__)

VIEWPORT_PX = 4096
LARGEST_SIDE_PX = 65_535.0  # Rows and Columns are US
THUMBNAIL_PX = 256


@blueprint.get("/studies/<study>/rendered")
@blueprint.get("/studies/<study>/series/<series>/rendered")
def rendered(study: str, series: str | None = None) -> Response:
    """The picture that stands for a study or series: frontal radiograph, middle slice.

    With ``region=…`` the one that shows this region, in its window.
    """
    return _of_many(study, series, _asked())


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/rendered")
def rendered_instance(study: str, series: str, instance: str) -> Response:
    """An instance as PNG or JPEG, a radiograph in its reading position; a report as HTML or text, a PDF unchanged."""
    stored = instance_at(study, series, instance)
    return document_response(stored) if offers_for(stored) else _answer(stored, None, _asked())


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/frames/<frames>/rendered")
def rendered_frame(study: str, series: str, instance: str, frames: str) -> Response:
    """A frame as PNG or JPEG, as it is stored."""
    stored = instance_at(study, series, instance)
    numbers = parse_frame_list(frames, stored.frames)
    if len(numbers) > 1:
        raise BadInput("one frame is rendered at a time")
    return _answer(stored, numbers[0], _asked())


@blueprint.get("/studies/<study>/thumbnail")
@blueprint.get("/studies/<study>/series/<series>/thumbnail")
def thumbnail(study: str, series: str | None = None) -> Response:
    """The picture that stands for a study or series, small. Takes ``region`` as well."""
    return _of_many(study, series, _asked(THUMBNAIL_PX))


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/thumbnail")
def thumbnail_instance(study: str, series: str, instance: str) -> Response:
    """An instance, small."""
    return _answer(instance_at(study, series, instance), None, _asked(THUMBNAIL_PX))


def _of_many(study: str, series: str | None, rendering: Rendering) -> Response:
    found = representative(instances_at(study, series), parameters.one("region"))
    if rendering.window is None and found.window is not None:
        rendering = replace(rendering, window=(*found.window, "LINEAR"))
    return _answer(found.instance, found.frame if found.instance.frames > 1 else None, rendering)


def _asked(box_px: int | None = None) -> Rendering:
    """The rendering parameters of the request (PS3.18 8.3.5). Raises BadInput, NotAcceptable."""
    small = request.path.endswith("thumbnail")
    media_type, _ = choose((JPEG, PNG) if small else (PNG, JPEG))
    viewport = parameters.one("viewport")
    box, source = ((box_px, box_px) if box_px else None), None
    if viewport is not None:
        box, source = _viewport(viewport)
        if small and source is not None:
            raise BadInput("the viewport of a thumbnail is width,height")
    return Rendering(
        media_type=media_type,
        viewport_px=box,
        source=source,
        window=_window(parameters.one("window")),
        quality=max(1, parameters.count("quality", 90, high=100)),
    )


def _viewport(text: str) -> tuple[tuple[int, int], Source | None]:
    """``vw,vh`` or ``vw,vh,sx,sy,sw,sh``, of which the last four may be left empty."""
    pieces = text.split(",")
    box = pieces[:2]
    if not all(s.isascii() and s.isdigit() and 1 <= int(s[:9]) <= VIEWPORT_PX for s in box) or len(pieces) not in (
        2,
        6,
    ):
        raise BadInput(f"viewport is vw,vh or vw,vh,sx,sy,sw,sh with vw and vh whole numbers from 1 to {VIEWPORT_PX}")
    size = (int(box[0]), int(box[1]))
    if len(pieces) == 2:
        return size, None
    left, top, width, height = (_decimal(piece) for piece in pieces[2:])
    if (left or 0) < 0 or (top or 0) < 0 or width == 0 or height == 0:
        raise BadInput("sx and sy of viewport are not negative, sw and sh not 0")
    return size, Source(left=left, top=top, width=width, height=height)


def _decimal(text: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) <= LARGEST_SIDE_PX:
        raise BadInput("sx, sy, sw and sh of viewport are decimal numbers of pixels")
    return number


def _window(text: str | None) -> tuple[float, float, str] | None:
    if text is None:
        return None
    pieces = text.split(",")
    function = (pieces[2:] or ["linear"])[0].upper().replace("-", "_")
    try:
        centre, width = float(pieces[0]), float(pieces[1])
    except (ValueError, IndexError):
        centre = width = float("nan")
    if not (abs(centre) < 1e6 and 0 < width < 1e6) or function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise BadInput("window is centre,width,function with a function of linear, linear-exact or sigmoid")
    return centre, width, function


def _answer(instance: StoredInstance, frame: int | None, rendering: Rendering) -> Response:
    response = Response(content_type=rendering.media_type)
    name = hashlib.sha256(f"{instance.content_sha256} {frame} {rendering}".encode()).hexdigest()[:32]
    response.set_etag(name)
    response.headers["Vary"] = "Accept"
    response.make_conditional(request)
    if response.status_code != 304:
        small = rendering.viewport_px is not None and max(rendering.viewport_px) <= THUMBNAIL_PX
        make = partial(_rendered, instance, frame, rendering)
        response.data = services().thumbnails.get(name, make) if small else make()
    return response


def _rendered(instance: StoredInstance, frame: int | None, rendering: Rendering) -> bytes:
    if not instance.rows_px:
        raise NotFound("the instance has no pixel data")
    path = blob_of(instance)  # first: it may come from another machine, and nobody else could draw meanwhile
    with services().decoder.lent() as decoder:
        picture = draw(instance, path, frame or 1, rendering.window, decoder, always_stored=frame is not None)
    return encode(picture, rendering)
