"""Where a region lies on a grid of cells over a frontal view, by its textbook outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from radir_pacs.anatomy.outlines import outlines
from radir_pacs.types import F32

SUBCELLS = 16  # along each side of a cell, to draw outlines


def place(key: str, grid: Sequence[int]) -> F32:
    """The share of each cell of ``grid`` (rows, columns) in region ``key`` on a frontal view, flat; the sum is 1."""
    rows, columns = grid
    picture = Image.new("L", (columns * SUBCELLS, rows * SUBCELLS))
    draw = ImageDraw.Draw(picture)
    for outline in outlines(key):
        draw.polygon([(x * picture.width, y * picture.height) for x, y in outline], fill=1)
    covered = np.asarray(picture, np.float32).reshape(rows, SUBCELLS, columns, SUBCELLS).mean((1, 3)).ravel()
    share: F32 = covered / covered.sum()
    return share
