"""Rendered pictures as PNG or JPEG (PS3.18 10.4.1.1.3, 8.3.5): a radiograph as it is read, a slice in its window.

A series or study is answered by one representative picture, not by all of them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from flask import Blueprint, Response, request
from PIL import Image

from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.grayscale import is_inverted, modality_values, padding, presentation_values
from radir_pacs.dicom.header import read_attributes, read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.radiograph import read_radiograph
from radir_pacs.errors import BadInput, DicomRefused, NotFound
from radir_pacs.web.services import services

from . import parameters
from .accept import choose
from .documents import document_response, offers_for
from .frames import parse_frame_list
from .representative import RADIOGRAPHS, modality_of, representative
from .stored import blob_of, instance_at, instances_at

blueprint = Blueprint("rendered", __name__)

PNG, JPEG = "image/png", "image/jpeg"
VIEWPORT_PX = 4096
THUMBNAIL_PX = 256
_LUNG_WINDOW = (-600.0, 1500.0, "LINEAR")  # centre and width in HU, for a CT slice that brings no window

Picture = npt.NDArray[np.uint8]  # [rows, columns] or [rows, columns, 3]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How to draw: a box to fit into, a window (centre, width, function), a JPEG quality. None: as it comes."""

    media_type: str
    viewport_px: tuple[int, int] | None
    window: tuple[float, float, str] | None
    quality: int


@blueprint.get("/studies/<study>/rendered")
@blueprint.get("/studies/<study>/series/<series>/rendered")
def rendered(study: str, series: str | None = None) -> Response:
    """The picture that stands for a study or series: frontal radiograph, middle slice."""
    return _answer(representative(instances_at(study, series), services().blobs), None, _asked())


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/rendered")
def rendered_instance(study: str, series: str, instance: str) -> Response:
    """An instance as PNG or JPEG, a radiograph in its reading position; a report as HTML or text, a PDF as it is."""
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
    """The picture that stands for a study or series, small."""
    return _answer(representative(instances_at(study, series), services().blobs), None, _asked(THUMBNAIL_PX))


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/thumbnail")
def thumbnail_instance(study: str, series: str, instance: str) -> Response:
    """An instance, small."""
    return _answer(instance_at(study, series, instance), None, _asked(THUMBNAIL_PX))


def _asked(box_px: int | None = None) -> Rendering:
    """The rendering parameters of the request (PS3.18 8.3.5). Raises BadInput, NotAcceptable."""
    media_type, _ = choose((JPEG, PNG) if request.path.endswith("thumbnail") else (PNG, JPEG))
    viewport = parameters.one("viewport")
    box = (box_px, box_px) if box_px else None
    if viewport is not None:
        sides = viewport.split(",")
        if len(sides) != 2 or not all(s.isascii() and s.isdigit() and 1 <= int(s[:9]) <= VIEWPORT_PX for s in sides):
            raise BadInput(f"viewport is two whole numbers from 1 to {VIEWPORT_PX}, width,height")
        box = (int(sides[0]), int(sides[1]))
    return Rendering(
        media_type=media_type,
        viewport_px=box,
        window=_window(parameters.one("window")),
        quality=max(1, parameters.count("quality", 90, high=100)),
    )


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
    with services().decoder.lent() as decoder:
        picture = draw(instance, frame or 1, rendering.window, decoder, always_stored=frame is not None)
    return encode(picture, rendering)


def draw(
    instance: StoredInstance,
    frame: int,
    window: tuple[float, float, str] | None,
    decoder: PixelDecoder,
    *,
    always_stored: bool = False,
) -> Picture:
    """A frame in shades from 0 to 255, bright is dense. A radiograph is turned to its reading position unless
    ``always_stored``. Raises NotFound without pixels, DicomRefused when they cannot be decoded."""
    if not instance.rows_px:
        raise NotFound("the instance has no pixel data")
    path = blob_of(instance)
    modality = modality_of(instance)
    if modality in RADIOGRAPHS and instance.frames == 1 and window is None and not always_stored:
        volume = read_radiograph(read_header(path), path, decoder)
        return _shades(volume.voxels[0])
    decoded = decoder.decode(path)
    if frame > len(decoded.pixels):
        raise NotFound(f"the instance has {len(decoded.pixels)} frames")
    stored = decoded.pixels[frame - 1]
    if stored.ndim == 3:
        return _colour(stored)
    attributes = read_attributes(path)
    window = window or (_LUNG_WINDOW if modality == "CT" and "00281050" not in attributes else None)
    if window is not None:
        attributes = _with_window(attributes, window)
    padded = padding(stored, attributes)
    values = modality_values(stored, attributes)
    visible = values if padded is None else values[~padded]
    if visible.min() == visible.max():
        return _shades(np.zeros_like(values))  # nothing to tell apart
    shown, _ = presentation_values(values, attributes, padded)
    if is_inverted(attributes):
        shown = 1 - shown
    if padded is not None:
        shown[padded] = 0
    return _shades(shown)


def _with_window(attributes: Mapping[str, Any], window: tuple[float, float, str]) -> dict[str, Any]:
    """``attributes`` with this VOI in place of its own (PS3.3 C.11.2)."""
    centre, width, function = window
    voi = {
        "00281050": {"vr": "DS", "Value": [centre]},
        "00281051": {"vr": "DS", "Value": [width]},
        "00281056": {"vr": "CS", "Value": [function]},
    }
    return {tag: attributes[tag] for tag in attributes if tag != "00283010"} | voi


def _shades(shown: npt.NDArray[np.float32]) -> Picture:
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def _colour(stored: npt.NDArray[Any]) -> Picture:
    if stored.dtype.kind != "u" or stored.shape[-1] != 3:
        raise DicomRefused("the colour picture has an unusual form")
    shift = 8 * (stored.dtype.itemsize - 1)
    return (stored >> shift).astype(np.uint8)


def encode(picture: Picture, rendering: Rendering) -> bytes:
    """PNG or JPEG bytes, no larger than the viewport, with the picture's own proportions."""
    image = Image.fromarray(picture)
    if rendering.viewport_px is not None:
        width, height = rendering.viewport_px
        scale = min(width / image.width, height / image.height)
        size: Sequence[int] = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if rendering.media_type == JPEG:
        image.save(out, "JPEG", quality=rendering.quality)
    else:
        image.save(out, "PNG", compress_level=1)
    return out.getvalue()
