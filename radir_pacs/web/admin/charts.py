"""Where the marks of small charts stand, in the units of their SVG; templates draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BAR_WIDTH, BAR_STEP, BARS_HEIGHT = 7, 9, 34
WIDTH, HEIGHT = 640.0, 200.0
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2")


@dataclass(frozen=True, kw_only=True)
class Bar:
    x: int
    y: float
    height: float


def bars(values: Sequence[int]) -> tuple[Bar, ...]:
    """One per value, the largest as high as there is room; what is not nothing is seen."""
    most = max(values, default=0) or 1
    heights = [0.0 if not value else max(1.5, BARS_HEIGHT * value / most) for value in values]
    return tuple(
        Bar(x=number * BAR_STEP, y=round(BARS_HEIGHT - height, 2), height=round(height, 2))
        for number, height in enumerate(heights)
    )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """``points``: of an SVG polyline. ``first``, ``last``: values. ``dash`` tells it apart without colour."""

    name: str
    points: str
    first: float
    last: float
    dash: str
    number: int


def shares(values: Mapping[str, Sequence[tuple[int, float]]]) -> tuple[Curve, ...]:
    """Figures between 0 and 1 over the number of a week, on one scale from 0 at the bottom to 1."""
    last = max((points[-1][0] for points in values.values() if points), default=0) or 1
    return tuple(
        Curve(
            name=name,
            points=" ".join(f"{WIDTH * week / last:.1f},{HEIGHT * (1 - value):.1f}" for week, value in points),
            first=points[0][1],
            last=points[-1][1],
            dash=_DASHES[number % len(_DASHES)],
            number=number % len(_DASHES),
        )
        for number, (name, points) in enumerate(values.items())
        if points
    )


def curves(losses: Mapping[str, Sequence[Sequence[float]]]) -> tuple[tuple[Curve, ...], int]:
    """Each loss as a share of its first value, on one logarithmic scale, and the last step."""
    read = {name: [(step, loss) for step, loss in points if 0 < loss < math.inf] for name, points in losses.items()}
    found = {name: points for name, points in sorted(read.items()) if points}
    if not found:
        return (), 0
    last_step = max(points[-1][0] for points in found.values())
    heights = {name: [math.log(value / points[0][1]) for _, value in points] for name, points in found.items()}
    low = min(min(shown) for shown in heights.values())
    high = max(max(shown) for shown in heights.values())
    span = (high - low) or 1.0
    made = []
    for number, (name, points) in enumerate(found.items()):
        places = [
            f"{WIDTH * step / last_step:.1f},{HEIGHT * (high - height) / span:.1f}"
            for (step, _), height in zip(points, heights[name], strict=True)
        ]
        curve = Curve(
            name=name,
            points=" ".join(places),
            first=points[0][1],
            last=points[-1][1],
            dash=_DASHES[number % len(_DASHES)],
            number=number % len(_DASHES),
        )
        made.append(curve)
    return tuple(made), int(last_step)
