"""Stored values within their cells (PS3.5 8.1.1): Bits Allocated, Bits Stored, High Bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[Any]


def stored_values(cells: Cells, *, bits_stored: int, high_bit: int) -> Cells:
    """The values of ``bits_stored`` bits of which High Bit is the highest, sign-extended where the cells are signed.

    cells: whole cells of Bits Allocated bits as in the pixel data, int or uint. High Bit is ignored where the cells
    show that it is wrong and the values occupy the lowest bits: they use no bit above Bits Stored, but some below the
    lowest that High Bit would leave them.
    """
    allocated = cells.dtype.itemsize * 8
    bottom = high_bit + 1 - bits_stored
    if not 0 < bottom <= allocated - bits_stored:
        return _values(cells, allocated - bits_stored, allocated - bits_stored)
    plain = cells.view(f"u{cells.dtype.itemsize}")
    uses_low_bits = bool((plain & ((1 << bottom) - 1)).any())
    fits_below = bool((_values(cells, allocated - bits_stored, allocated - bits_stored) == cells).all()) or bool(
        (plain >> bits_stored == 0).all()
    )
    if uses_low_bits and fits_below:
        bottom = 0
    return _values(cells, allocated - bits_stored - bottom, allocated - bits_stored)


def _values(cells: Cells, up: int, down: int) -> Cells:
    """Shift up, which drops the bits above the value, then down again, which extends its sign."""
    moved: Cells = np.right_shift(np.left_shift(cells, up), down)
    return moved
