"""The picture of an instance: a radiograph as it is read, a slice in its window; as PNG or JPEG in a viewport."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from radir_pacs import anatomy
from radir_pacs.catalogue import StoredInstance
from radir_pacs.dicom.grayscale import is_inverted, modality_values, padding, presentation_values
from radir_pacs.dicom.header import read_attributes, read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.radiograph import read_radiograph
from radir_pacs.errors import BadInput, DicomRefused, NotFound
from radir_pacs.types import ImageKind
from radir_pacs.web.services import services

from .representative import kind_of

PNG, JPEG = "image/png", "image/jpeg"

Picture = npt.NDArray[np.uint8]  # [rows, columns] or [rows, columns, 3]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The part of a picture that is drawn, in its pixels (PS3.18 8.3.5.1.3). None: from the first
    or to the last column or row. A negative width mirrors what is drawn, a negative height turns it upside down."""

    left: float | None
    top: float | None
    width: float | None
    height: float | None


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How to draw: the box to fit into, the part of the picture to show, a window (centre, width, function), a JPEG
    quality. None: the default."""

    media_type: str
    viewport_px: tuple[int, int] | None
    source: Source | None
    window: tuple[float, float, str] | None
    quality: int


def draw(
    instance: StoredInstance,
    path: Path,
    frame: int,
    window: tuple[float, float, str] | None,
    decoder: PixelDecoder,
    *,
    always_stored: bool = False,
) -> Picture:
    """A frame of the instance's file in shades from 0 to 255, bright is dense. A radiograph is turned to its reading
    position unless ``always_stored``. Raises NotFound without such a frame, DicomRefused when it cannot be decoded."""
    kind = kind_of(instance)
    senders = services().settings.lut_shape_senders
    if kind is ImageKind.CXR and instance.frames == 1 and window is None and not always_stored:
        header = replace(read_header(path), source=instance.source)
        return _shades(read_radiograph(header, path, decoder, lut_shape_senders=senders).voxels[0])
    decoded = decoder.decode(path, coloured=True)
    if frame > len(decoded.pixels):
        raise NotFound(f"the instance has {len(decoded.pixels)} frames")
    stored = decoded.pixels[frame - 1]
    if stored.ndim == 3:
        return _colour(stored)
    attributes = read_attributes(path)
    if window is None and kind is ImageKind.CT and "00281050" not in attributes:
        window = (*anatomy.LUNG, "LINEAR")
    if window is not None:
        attributes = _with_window(attributes, window)
    padded = padding(stored, attributes)
    values = modality_values(stored, attributes)
    visible = values if padded is None else values[~padded]
    if visible.min() == visible.max():
        return _shades(np.zeros_like(values))  # nothing to show
    shown, _ = presentation_values(values, attributes, padded)
    if is_inverted(attributes, by_lut_shape=instance.source in senders):
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
    """PNG or JPEG bytes, as large as the viewport allows, in the picture's own proportions.

    Raises BadInput when the part of the picture that was asked for lies outside it.
    """
    image = Image.fromarray(picture)
    if rendering.viewport_px is not None:
        image = _fitted(image, rendering.viewport_px, rendering.source)
    out = io.BytesIO()
    if rendering.media_type == JPEG:
        image.save(out, "JPEG", quality=rendering.quality)
    else:
        image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _fitted(image: Image.Image, viewport_px: tuple[int, int], source: Source | None) -> Image.Image:
    box = (0.0, 0.0, float(image.width), float(image.height))
    if source is not None:
        left, top = source.left or 0.0, source.top or 0.0
        right = left + abs(source.width) if source.width is not None else box[2]
        bottom = top + abs(source.height) if source.height is not None else box[3]
        box = (left, top, min(right, box[2]), min(bottom, box[3]))
    width, height = box[2] - box[0], box[3] - box[1]
    if min(width, height) <= 0:
        raise BadInput("the source region of viewport lies outside the picture")
    scale = min(viewport_px[0] / width, viewport_px[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    whole = (int(box[0]), int(box[1]), math.ceil(box[2]), math.ceil(box[3]))  # pixels outside must not bleed in
    within = (box[0] - whole[0], box[1] - whole[1], box[2] - whole[0], box[3] - whole[1])
    fitted = image.crop(whole).resize(size, Image.Resampling.LANCZOS, box=within)
    if source is not None and (source.width or 0) < 0:
        fitted = fitted.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if source is not None and (source.height or 0) < 0:
        fitted = fitted.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return fitted
