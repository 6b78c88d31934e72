"""The grayscale pipeline: stored values to modality values to presentation values (PS3.4 N.2, PS3.3 C.11)."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from radir_pacs.dicom.json_model import Readable, number, numbers, text, value, values
from radir_pacs.errors import DicomRefused
from radir_pacs.image_notes import ImageNote, ImageNoteCode, image_note
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import F32, InstanceHeader

_DEFAULT_PERCENTILES = (0.5, 99.5)
_SATURATED = 0.9  # a window that turns more than this share of the picture pure black or white is ignored
_LUT_SHAPES = {"IDENTITY", "INVERSE"}
_LARGEST_WINDOW = 1e9  # no picture has a larger window
Stored = npt.NDArray[Any]  # integers as decoded
Mask = npt.NDArray[np.bool_]


def is_colour(header: InstanceHeader) -> bool:
    """Whether the pixels are anything but grey values."""
    photometric = text(header.attributes, "PhotometricInterpretation")
    return photometric not in {"MONOCHROME1", "MONOCHROME2", ""} or value(header.attributes, "SamplesPerPixel") == 3


def modality_values(stored: Stored, attributes: Readable) -> F32:
    """Stored values through the Modality LUT or the rescale slope and intercept (PS3.3 C.11.1)."""
    tables = values(attributes, "ModalityLUTSequence")
    if tables:
        return _look_up(stored, tables[0])[0]
    return rescaled(stored, _usable(attributes, "RescaleSlope"), _usable(attributes, "RescaleIntercept"))


def _usable(attributes: Readable, keyword: str) -> float | None:
    """The number in ``keyword``; None without a value. Raises DicomRefused for a value that is not a usable number."""
    found = number(attributes, keyword)
    if found is None and value(attributes, keyword) is not None:
        raise DicomRefused(f"{keyword} is not a finite number of sensible size", reason_code=ReasonCode.DECODE_FAILED)
    return found


def rescaled(stored: Stored, slope: float | None, intercept: float | None) -> F32:
    """``stored`` times ``slope`` plus ``intercept``; a slope of 0 counts as absent.

    Raises DicomRefused when the result is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = stored.astype(np.float32)
        if slope not in (None, 0, 1):
            found *= np.float32(slope)
        if intercept:
            found += np.float32(intercept)
        finite = bool(np.isfinite(found.sum(dtype=np.float64)))
    if not finite:
        raise DicomRefused(
            "the stored values, or Rescale Slope and Intercept, give no finite numbers",
            reason_code=ReasonCode.DECODE_FAILED,
        )
    return found


def padding(stored: Stored, attributes: Readable) -> Mask | None:
    """Which pixels are padding, by Pixel Padding Value or its range (PS3.3 C.7.5.1.1.2); None without padding."""
    low, high = value(attributes, "PixelPaddingValue"), value(attributes, "PixelPaddingRangeLimit")
    if not isinstance(low, int):
        return None
    if stored.dtype.kind == "u" and low < 0:
        low += 1 << (stored.dtype.itemsize * 8)  # written as SS for unsigned pixels
    low, high = (low, low) if not isinstance(high, int) else (min(low, high), max(low, high))
    mask: Mask = (stored >= low) & (stored <= high)
    return mask if mask.any() and not mask.all() else None


def presentation_values(modality: F32, attributes: Readable, padded: Mask | None = None) -> tuple[F32, list[ImageNote]]:
    """Values in [0, 1] after the VOI LUT, and warnings. Dark and bright are as stored: inversion comes later.

    A VOI LUT takes precedence over a window (PS3.3 C.11.2.1); with neither, or with a window that leaves hardly any
    shades, a percentile window of the pixels that are not padding.
    """
    warnings: list[ImageNote] = []
    tables = values(attributes, "VOILUTSequence")
    if tables:
        found, top = _look_up(modality, tables[0])
        shown = np.clip(found / top, 0, 1).astype(np.float32)
    else:
        shown = _window(modality, attributes)
    if shown is not None:
        visible = shown if padded is None else shown[~padded]
        if np.mean((visible <= 0) | (visible >= 1)) <= _SATURATED:
            return shown, warnings
        warnings.append(image_note(ImageNoteCode.WINDOW_REPLACED))
    visible = modality if padded is None else modality[~padded]
    low, high = np.percentile(visible, _DEFAULT_PERCENTILES)
    if high <= low:
        low, high = float(visible.min()), float(visible.max())
    if high <= low:
        raise DicomRefused("the picture is one flat shade", reason_code=ReasonCode.BLANK_IMAGE)
    return np.clip((modality - np.float32(low)) / np.float32(high - low), 0, 1), warnings


def is_inverted(attributes: Readable, *, by_lut_shape: bool = False) -> bool:
    """Whether low values are bright: Photometric Interpretation MONOCHROME1.

    Presentation LUT Shape must agree (PS3.3 C.8.11.3.1.2). Where it does not, it is usually a leftover, and is followed
    only for senders that are known to mean it: ``by_lut_shape``.
    """
    shape = text(attributes, "PresentationLUTShape").upper()
    if by_lut_shape and shape in _LUT_SHAPES:
        return shape == "INVERSE"
    return text(attributes, "PhotometricInterpretation") == "MONOCHROME1"


def lut_shape_contradicts(attributes: Readable) -> bool:
    """Whether Presentation LUT Shape contradicts Photometric Interpretation."""
    shape = text(attributes, "PresentationLUTShape").upper()
    return shape in _LUT_SHAPES and (shape == "INVERSE") is not is_inverted(attributes)


def _window(modality: F32, attributes: Readable) -> F32 | None:
    """``modality`` through the first window (PS3.3 C.11.2.1.2); None without one."""
    centre, width = number(attributes, "WindowCenter"), number(attributes, "WindowWidth")
    if centre is None or width is None or abs(centre) > _LARGEST_WINDOW or not 0 < width < _LARGEST_WINDOW:
        return None
    function = text(attributes, "VOILUTFunction").upper()
    if function == "SIGMOID":
        exponent = np.clip(-4 * (modality - np.float32(centre)) / np.float32(width), -60, 60)
        shown: F32 = (1 / (1 + np.exp(exponent))).astype(np.float32)
        return shown
    if function != "LINEAR_EXACT":  # LINEAR, the default
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    linear = (modality - np.float32(centre)) / np.float32(width) + np.float32(0.5)
    return np.asarray(np.clip(linear, 0, 1), np.float32)


def _look_up(pixels: Stored, item: Readable) -> tuple[F32, float]:
    """``pixels`` through the table of a LUT item (PS3.3 C.11.1.1.1), and the highest value that it can give."""
    descriptor = numbers(item, "LUTDescriptor", 3)
    table = _table(item)
    if descriptor is None or table is None or max(map(abs, descriptor)) > 1 << 16:
        raise DicomRefused("a LUT item has no usable table")
    length, first, bits = int(descriptor[0]) or 1 << 16, int(descriptor[1]), int(descriptor[2])
    if first >= 1 << 15 and float(pixels.min()) < 0:
        first -= 1 << 16  # the descriptor was written as US over signed pixels
    if len(table) == 2 * length:  # 8-bit entries read as bytes of words
        table = table[::2]
    index = np.clip(pixels.astype(np.int64) - first, 0, min(length, len(table)) - 1)
    return table[index].astype(np.float32), float(max((1 << min(max(bits, 1), 16)) - 1, int(table.max()), 1))


def _table(item: Readable) -> Stored | None:
    data = item.get("00283006")  # LUT Data, US or OW
    if not data:
        return None
    if "InlineBinary" in data:
        return np.frombuffer(base64.b64decode(data["InlineBinary"]), "<u2")
    entries = data.get("Value", [])
    return np.asarray(entries, np.int64) if entries and all(isinstance(n, int) for n in entries) else None
