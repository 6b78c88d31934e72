"""Diaphragm, liver, spleen, stomach with its bubble, and the kidneys at the lower edge."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .patient import Chest

MUSCLE_HU, LIVER_HU, SPLEEN_HU, GAS_HU = 45.0, 58.0, 50.0, -960.0


def paint_abdomen(canvas: Canvas, chest: Chest) -> None:
    """Fill the space under the domes; painted after the lungs, whose floor is the same dome."""
    p, axes = chest.patient, canvas.axes
    highest = max(chest.right_dome_mm, chest.left_dome_mm) + 2
    window = canvas.window((axes.x[0], axes.y[0], axes.z[0]), (axes.x[-1], axes.y[-1], highest))
    if window is None:
        return
    x, y, z = canvas.coordinates(window)
    right, left = (chest.dome(axes.x[None, :], axes.y[:, None], side) for side in (-1, 1))
    mix = np.clip(0.5 + (axes.x[None, :] - 6) / 24, 0, 1)
    floor = ((1 - mix) * right + mix * left).astype(np.float32)[None]
    under = floor - 1.5 - z
    width, depth, centre = (values[window[0], None, None] for values in chest.cavity(axes.z))
    inside = (1 - np.sqrt((x / width) ** 2 + ((y - centre) / depth) ** 2)) * np.minimum(width, depth) - 1.5
    dome = np.minimum(under, inside)
    canvas.paint(window, canvas.soften(np.minimum(dome, 3.5 - under)), MUSCLE_HU)
    s = p.scale
    below = dome - 3.0
    liver_edge = 26 * s - x - np.maximum(0, (chest.right_dome_mm - 60 - z)) * 0.55
    canvas.paint(window, canvas.soften(np.minimum(below, liver_edge)), LIVER_HU)
    for centre_mm, radii, hu in (
        ((96 * s, 44, chest.left_dome_mm - 58 * s), (31, 38, 50), SPLEEN_HU),
        ((52 * s, -12, chest.left_dome_mm - 46 * s), (44, 40, 44), 32.0),
    ):
        shape = canvas.ellipsoid(centre_mm, np.asarray(radii) * s)
        if shape is None:
            continue
        at, coverage = shape
        keep = canvas.soften(_cut(below, window, at))
        canvas.paint(at, coverage * keep, hu)
    _paint_bubble(canvas, chest)


def _cut(values: np.ndarray, window: tuple[slice, slice, slice], at: tuple[slice, slice, slice]) -> np.ndarray:
    """The part of ``values`` (on ``window``) inside the window ``at``; far outside where the two do not overlap."""
    shape = tuple(part.stop - part.start for part in at)
    cut = np.full(shape, -1e3, np.float32)
    source, target = [], []
    for mine, other in zip(window, at, strict=True):
        start, stop = max(mine.start, other.start), min(mine.stop, other.stop)
        if start >= stop:
            return cut
        source.append(slice(start - mine.start, stop - mine.start))
        target.append(slice(start - other.start, stop - other.start))
    cut[tuple(target)] = values[tuple(source)]
    return cut


def _paint_bubble(canvas: Canvas, chest: Chest) -> None:
    """Gas in the fundus of the stomach over a flat fluid level, and a loop of colon beside it."""
    p = chest.patient
    s = p.scale
    rng = np.random.default_rng([p.seed, 13])
    size = rng.uniform(0.7, 1.15)
    centre = np.array([50 * s, -16.0, chest.left_dome_mm - 31 * s])
    shape = canvas.ellipsoid(centre, np.array([30, 28, 19]) * s * size)
    if shape is not None:
        window, coverage = shape
        _, _, z = canvas.coordinates(window)
        canvas.paint(window, coverage * canvas.soften((z - centre[2] + 9).astype(np.float32)), GAS_HU)
    if rng.random() < 0.6:
        colon = centre + np.array([34 * s, -14, -22 * s])
        canvas.ball(colon, np.array([17, 20, 10]) * s, GAS_HU)
