"""How high in the chest a region lies, and so on which slices of a CT series it is found.

Heights are textbook positions on a scale that every chest provides: 0 is the domes of the diaphragm, 1 the apices of
the lungs, in deep inspiration about 0.11 per thoracic vertebra. How far off they are: ``docs/results/ct-slices.md``.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from radir_pacs.anatomy.table import ancestors, region
from radir_pacs.types import ImageRef, SliceStack

_SPANS_MM = 60.0  # a region of at least this height is shown on several slices


def height(key: str) -> tuple[float, float]:
    """(low, high) of region ``key``; of its nearest ancestor where it has none of its own. Raises UnknownRegion."""
    for found in (region(key), *ancestors(key)):
        own = _heights().get(found.key)
        if own is not None:
            return own
    raise ValueError(f"no height at or above {key!r}")  # the root has one: a test holds that


def slices_of(stack: SliceStack, key: str) -> tuple[ImageRef, ...]:
    """The slices that show region ``key``, the one that shows it best first.

    That is the middle of the part of the region that the series covers; a region that spans many slices is also shown
    a quarter of the way from either end. For a region beyond the series it is the nearest end of the series.
    """
    last = len(stack.images) - 1
    low, high = (min(max(stack.dome + at * (stack.apex - stack.dome), 0.0), float(last)) for at in height(key))
    shares = (0.5, 0.25, 0.75) if (high - low) * stack.step_mm >= _SPANS_MM else (0.5,)
    indices = dict.fromkeys(round(low + share * (high - low)) for share in shares)
    return tuple(ImageRef.parse(stack.images[index]) for index in indices)


@cache
def _heights() -> dict[str, tuple[float, float]]:
    text = (files("radir_pacs.anatomy") / "heights.csv").read_text(encoding="utf-8")
    return {row["key"]: (float(row["low"]), float(row["high"])) for row in csv.DictReader(text.splitlines())}
