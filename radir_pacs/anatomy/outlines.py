"""Schematic outlines: the place on a picture that the question is about.

They are textbook positions on a frontal radiograph and on the axial slice of a CT that shows the region (`heights`),
not measurements of this patient.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from radir_pacs.anatomy.table import ancestors, region
from radir_pacs.types import ImageKind

Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """One row of ``outlines.csv``: a polygon around the whole region, and the regions that are its two sides."""

    around: Outline
    sides: tuple[str, ...]


def outline(key: str, kind: ImageKind = ImageKind.CXR) -> Outline:
    """An open polygon around region ``key``, as fractions (column, row) of the picture, patient's right at the left.

    CXR: a frontal view. CT: an axial slice that shows it. A region without an outline of its own gets its nearest
    ancestor's. Raises UnknownRegion.
    """
    return _drawn(key, kind).around


def outlines(key: str, kind: ImageKind = ImageKind.CXR) -> tuple[Outline, ...]:
    """As `outline`, with a polygon per side for a region that has two sides and nothing between them, right first."""
    drawn = _drawn(key, kind)
    return tuple(outline(side, kind) for side in drawn.sides) or (drawn.around,)


def _drawn(key: str, kind: ImageKind) -> _Drawn:
    for found in (region(key), *ancestors(key)):
        own = _outlines().get((found.key, kind))
        if own is not None:
            return own
    raise ValueError(f"no outline at or above {key!r}")  # the root has one of each kind: a test holds that


@cache
def _outlines() -> dict[tuple[str, ImageKind], _Drawn]:
    text = (files("radir_pacs.anatomy") / "outlines.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, ImageKind], _Drawn] = {}
    for row in csv.DictReader(text.splitlines()):
        kind, words = ImageKind(row["kind"]), row["points"].split()
        if words[0] == "mirror":
            points: Outline = tuple((round(1 - x, 4), y) for x, y in found[(words[1], kind)].around)
        else:
            numbers = [float(word) for word in words]
            points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        found[(row["key"], kind)] = _Drawn(around=points, sides=tuple((row["sides"] or "").split()))
    return found
