"""PALETTE COLOR to RGB (PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6). Runs in the decoding child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pydicom import Dataset

_CHANNELS = ("Red", "Green", "Blue")


def through_palette(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.uint8]:
    """``stored`` of any shape as RGB [..., 3]. Raises ValueError, AttributeError, TypeError without usable tables.

    pydicom's function loses entries where an 8-bit table has more than 256, and renders 8-bit entries in 16-bit words
    too dark.
    """
    first = int(ds.RedPaletteColorLookupTableDescriptor[1])
    if stored.dtype.kind == "i" and first >= 1 << 15:
        first -= 1 << 16  # the descriptor was written as US over signed pixels
    tables = [_table(ds, channel) for channel in _CHANNELS]
    index = stored.astype(np.int64) - first
    return np.stack([table[np.clip(index, 0, len(table) - 1)] for table in tables], axis=-1)


def _table(ds: Dataset, channel: str) -> npt.NDArray[np.uint8]:
    """The entries of a channel, 8 bits each."""
    length, first, bits = (int(n) for n in ds[f"{channel}PaletteColorLookupTableDescriptor"].value)
    length = length or 1 << 16
    data = ds.get(f"{channel}PaletteColorLookupTableData")
    if data is None:
        return _segmented(ds, channel, length, first, bits)
    words = len(data) >= 2 * length
    little = ds.original_encoding[1] is not False
    entries = np.frombuffer(data[: length * 2] if words else data, (("<" if little else ">") + "u2") if words else "u1")
    if len(entries) == 0:
        raise ValueError("an empty palette")
    return _eight_bits(entries[:length], bits)


def _segmented(ds: Dataset, channel: str, length: int, first: int, bits: int) -> npt.NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    every = np.arange(first, first + length)
    return _eight_bits(apply_color_lut(every, ds)[:, _CHANNELS.index(channel)], bits)


def _eight_bits(entries: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """The high byte of 16-bit entries, unless they use the low byte only, as some writers leave them."""
    if entries.dtype.itemsize == 2 and bits > 8 and int(entries.max()) > 0xFF:
        entries = entries >> 8
    eight: npt.NDArray[np.uint8] = np.minimum(entries, 0xFF).astype(np.uint8)
    return eight
