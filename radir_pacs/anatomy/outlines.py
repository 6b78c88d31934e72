"""Schematic outlines, drawn on the query image of a structured report to say *where* the question was asked.

They are textbook positions on a frontal radiograph and on a middle axial slice, not measurements of this patient.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from radir_pacs.anatomy.table import ancestors, region
from radir_pacs.types import ImageKind

Outline = tuple[tuple[float, float], ...]


def outline(key: str, kind: ImageKind = ImageKind.CXR) -> Outline:
    """An open polygon around region ``key``, as fractions (column, row) of the picture, patient's right at the left.

    CXR: a frontal view. CT: the middle axial slice. A region without an outline of its own gets its nearest
    ancestor's. Raises UnknownRegion.
    """
    for found in (region(key), *ancestors(key)):
        own = _outlines().get((found.key, kind))
        if own is not None:
            return own
    raise ValueError(f"no outline at or above {key!r}")  # the root has one of each kind: a test holds that


@cache
def _outlines() -> dict[tuple[str, ImageKind], Outline]:
    text = (files("radir_pacs.anatomy") / "outlines.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, ImageKind], Outline] = {}
    for row in csv.DictReader(text.splitlines()):
        kind, words = ImageKind(row["kind"]), row["points"].split()
        if words[0] == "mirror":
            points: Outline = tuple((round(1 - x, 4), y) for x, y in found[(words[1], kind)])
        else:
            numbers = [float(word) for word in words]
            points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        found[(row["key"], kind)] = points
    return found
