"""A chest radiograph (CR, DX) as a Volume of one plane: upright, bright is dense, the patient's right at the left."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from radir_pacs.dicom.grayscale import (
    is_inverted,
    lut_shape_contradicts,
    modality_values,
    padding,
    presentation_values,
)
from radir_pacs.dicom.header import read_attributes
from radir_pacs.dicom.json_model import Readable, numbers, value, values
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.turns import turn_of_radiograph
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import DicomRefused
from radir_pacs.image_notes import ImageNote, ImageNoteCode, image_note
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import ImageKind, InstanceHeader, Volume

DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
_SMALLEST_PX = 16
_ASSUMED_FIELD_MM = 400.0  # a chest detector is 350 to 430 mm wide


def read_radiograph(
    header: InstanceHeader, path: Path, decoder: PixelDecoder, *, lut_shape_senders: Collection[str] = ()
) -> Volume:
    """The radiograph at ``path``.

    The voxels have gone through the Modality LUT, the VOI LUT and the inversion of MONOCHROME1, padding is black, and
    the picture is turned by Patient Orientation to the reading position. lut_shape_senders: sources whose Presentation
    LUT Shape decides on the inversion. Raises DicomRefused when the pixels cannot be decoded or are not one grey
    picture.
    """
    if header.frames > 1:
        raise DicomRefused("a radiograph of several frames", reason_code=ReasonCode.UNSUPPORTED_IMAGE)
    attributes = read_attributes(path)
    frames = decoder.decode(path)
    if frames.pixels.ndim != 3 or not frames.photometric.startswith("MONOCHROME"):
        raise DicomRefused("a colour picture", reason_code=ReasonCode.UNSUPPORTED_IMAGE)
    stored = frames.pixels[0]
    if min(stored.shape) < _SMALLEST_PX:
        raise DicomRefused(
            f"a picture of fewer than {_SMALLEST_PX} rows or columns", reason_code=ReasonCode.UNSUPPORTED_IMAGE
        )
    warnings: list[ImageNote] = []
    padded = padding(stored, attributes)
    shown, more = presentation_values(modality_values(stored, attributes), attributes, padded)
    warnings += more
    by_lut_shape = header.source in lut_shape_senders
    if lut_shape_contradicts(attributes):
        code = ImageNoteCode.LUT_SHAPE_FOLLOWED if by_lut_shape else ImageNoteCode.PHOTOMETRIC_FOLLOWED
        warnings.append(image_note(code))
    if is_inverted(attributes, by_lut_shape=by_lut_shape) or _is_raw_transmission(header, attributes):
        shown = 1 - shown
    if padded is not None:
        shown[padded] = 0
    spacing_mm, more = _spacing_mm(attributes, stored.shape[1])
    warnings += more
    view = view_of(header.attributes)
    if view is None:
        warnings.append(image_note(ImageNoteCode.VIEW_UNKNOWN))
    turn = turn_of_radiograph(attributes)
    upright = turn.upright(shown)
    if turn.transposed:
        spacing_mm = spacing_mm[::-1]
    return Volume(
        kind=ImageKind.CXR,
        voxels=np.ascontiguousarray(upright[np.newaxis], np.float32),
        spacing_mm=(1.0, *spacing_mm),
        affine=np.diag([spacing_mm[1], spacing_mm[0], 1.0, 1.0]),
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        sop_instance_uids=(header.sop_uid,),
        view=view,
        warnings=tuple(warnings),
    )


def _is_raw_transmission(header: InstanceHeader, attributes: Readable) -> bool:
    """Whether this is a For Processing image whose values grow with X-ray intensity: dense is low (PS3.3 C.8.11.3)."""
    return (
        header.sop_class_uid == DX_FOR_PROCESSING
        and value(attributes, "PixelIntensityRelationshipSign") == 1
        and not values(attributes, "WindowCenter")
    )


def _spacing_mm(attributes: Readable, columns_px: int) -> tuple[tuple[float, float], list[ImageNote]]:
    """(row, column) spacing at the detector or, where known, in the patient (PS3.3 10.7.1.3), and warnings."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        pair = numbers(attributes, keyword, 2)
        if pair is not None and min(pair) > 0.005 and max(pair) < 20:
            factor = value(attributes, "EstimatedRadiographicMagnificationFactor")
            magnified = keyword == "ImagerPixelSpacing" and isinstance(factor, (int, float)) and 1 <= factor <= 3
            scale = float(factor) if magnified else 1.0
            return (pair[0] / scale, pair[1] / scale), []
    aspect = numbers(attributes, "PixelAspectRatio", 2)  # vertical : horizontal
    ratio = aspect[0] / aspect[1] if aspect is not None and min(aspect) > 0 else 1.0
    if not 0.1 < ratio < 10:
        ratio = 1.0
    column_mm = _ASSUMED_FIELD_MM / columns_px
    return (column_mm * ratio, column_mm), [image_note(ImageNoteCode.SPACING_ASSUMED, field_mm=_ASSUMED_FIELD_MM)]
