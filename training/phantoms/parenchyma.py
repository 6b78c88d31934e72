"""Findings inside the lungs: what fills, scars, destroys or grows in aerated lung."""

from __future__ import annotations

import numpy as np

from radir_pacs.types import F32

from .canvas import Canvas, Noise, Window
from .findings import PhantomFinding
from .lungs import above_oblique_fissure, lobe_weight, minor_fissure_mm
from .patient import Chest
from .places import hilum, lobe_place


def paint_lung_findings(canvas: Canvas, chest: Chest) -> None:
    painters = {
        "consolidation": _consolidation,
        "ground_glass": _ground_glass,
        "atelectasis": _atelectasis,
        "oedema": _oedema,
        "emphysema": _emphysema,
        "fibrosis": _fibrosis,
        "nodule": _growth,
        "mass": _growth,
        "hilar_adenopathy": _adenopathy,
    }
    for finding in chest.findings:
        if finding.concept in painters:
            painters[finding.concept](canvas, chest, finding)


def own_rng(chest: Chest, finding: PhantomFinding) -> np.random.Generator:
    """The random generator of one finding, the same on every day."""
    return np.random.default_rng([chest.patient.seed, *(int(value * 2**32) for value in finding.at)])


def _lung_window(canvas: Canvas, side: int) -> Window | None:
    axes = canvas.axes
    left, right = (axes.x[0], 2.0) if side < 0 else (-2.0, axes.x[-1]) if side > 0 else (axes.x[0], axes.x[-1])
    window = canvas.window((left, axes.y[0], axes.z[0]), (right, axes.y[-1], axes.z[-1]))
    return window if window is not None and canvas.lung[window].any() else None


def _patch(
    canvas: Canvas, chest: Chest, finding: PhantomFinding, radius_mm: float, edge_mm: float, grain_mm: float
) -> tuple[Window, F32, F32] | None:
    """A cloud in a lobe: its window and weight. An infinite radius covers the whole lobe."""
    window = _lung_window(canvas, finding.side)
    if window is None:
        return None
    s = chest.patient.scale
    centre = lobe_place(chest, finding)
    if radius_mm < 90:
        reach = (radius_mm + 2 * edge_mm) * s
        window = canvas.window(centre - reach, centre + reach)
        if window is None:
            return None
    x, y, z = canvas.coordinates(window)
    noise = Noise(own_rng(chest, finding), grain_mm)(x, y, z)
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2).astype(np.float32)
    cloud = np.clip((radius_mm * s - distance) / edge_mm + 0.55 * noise + 0.5, 0, 1)
    return window, cloud * lobe_weight(chest, finding.region, x, y, z), noise


def _consolidation(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    patch = _patch(canvas, chest, finding, (24, 38, 110)[finding.severity - 1], 15, 13)
    if patch is not None:
        window, weight, noise = patch
        canvas.infiltrate(window, weight * np.clip(0.86 + 0.12 * noise, 0.4, 1), 25.0)


def _ground_glass(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    patch = _patch(canvas, chest, finding, (36, 52, 110)[finding.severity - 1], 22, 17)
    if patch is not None:
        window, weight, noise = patch
        amount = (0.27, 0.36, 0.46)[finding.severity - 1]
        canvas.infiltrate(window, weight * np.clip(amount * (1 + 0.25 * noise), 0, 0.7), -60.0)


def _atelectasis(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    window = _lung_window(canvas, finding.side)
    if window is None:
        return
    side, s = finding.side, chest.patient.scale
    x, y, z = canvas.coordinates(window)
    rng = own_rng(chest, finding)
    lobe = lobe_weight(chest, finding.region, x, y, z)
    middle = finding.region == "right_middle_lobe"
    top = minor_fissure_mm(chest) - 30 if middle else chest.right_dome_mm if side < 0 else chest.left_dome_mm
    for band in range((2, 3, 2)[finding.severity - 1]):
        centre = np.array(
            [side * rng.uniform(56, 82) * s, -38.0 if middle else rng.uniform(15, 45), top + 9 + 13 * band]
        )
        tilt = rng.normal(0, 0.28, 2)
        height = z - centre[2] - tilt[0] * (x - centre[0]) - tilt[1] * (y - centre[1])
        extent = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
        thick = 1.1 + 0.5 * finding.severity
        share = min(1.0, 2 * thick / canvas.axes.voxel_mm)
        plate = (
            canvas.soften(np.minimum(thick - np.abs(height), (20 + 5 * band) * s - extent).astype(np.float32)) * share
        )
        canvas.infiltrate(window, (plate * (lobe if middle else 1)).astype(np.float32), 20.0)
    if finding.severity == 1:
        return
    if middle:
        # A triangle beside the right heart border, its base against the heart.
        inside = np.minimum((4 + 5 * finding.severity) * s + 0.3 * (x + 62 * s), 2.0 * (x + 82 * s))
        inside = inside - np.abs(z - minor_fissure_mm(chest) + (24 + 0.25 * np.abs(x + 30)) * s)
    else:
        # The collapsed lobe shrinks to a wedge against the spine and the diaphragm.
        edge = (10 + 14 * (finding.severity - 1)) * s
        inside = np.minimum(edge + (-24 * s - z) * 0.42 - side * x, y - 2)
    wedge = np.clip(inside / 5 + 0.5, 0, 1) * lobe
    canvas.infiltrate(window, (wedge * (0.6, 0.95)[finding.severity - 2]).astype(np.float32), 30.0)


def _oedema(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    window = _lung_window(canvas, 0)
    if window is None:
        return
    s, grade = chest.patient.scale, finding.severity
    x, y, z = canvas.coordinates(window)
    noise = Noise(own_rng(chest, finding), 15)(x, y, z)
    distance = ((np.abs(x) - 52 * s) / 46) ** 2 + ((y - 16) / 60) ** 2 + ((z + 32 * s) / 62) ** 2
    wings = np.exp(-distance / s**2) * (0.1, 0.27, 0.52)[grade - 1]
    base = np.clip((20 - z) / 160, 0, 1) * (0.04, 0.08, 0.13)[grade - 1]
    amount = (wings + base) * np.clip(1 + 0.38 * noise, 0.2, 2)
    fissure = np.exp(-((above_oblique_fissure(chest, y, z) / 2.2) ** 2)) * 0.12 * grade
    canvas.infiltrate(window, np.clip(amount + fissure, 0, 0.92).astype(np.float32), 0.0)
    _septal_lines(canvas, chest, finding)


def _septal_lines(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    """Kerley B: short flat lines touching the pleura at the bases."""
    rng = own_rng(chest, finding)
    for side in (-1, 1):
        for step in range(4 + 3 * finding.severity):
            z = (chest.right_dome_mm if side < 0 else chest.left_dome_mm) - 12 + 6.5 * step
            width = float(chest.cavity(np.asarray([z]))[0][0]) - 3
            y = rng.uniform(-25, 25)
            a, b = (side * width, y, z), (side * (width - rng.uniform(12, 22)), y + 6, z + rng.normal(0, 1))
            shape = canvas.capsule(a, b, 0.9)
            if shape is not None:
                canvas.infiltrate(*shape, 20.0)


def _emphysema(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    window = _lung_window(canvas, 0)
    if window is None:
        return
    x, y, z = canvas.coordinates(window)
    rng = own_rng(chest, finding)
    noise = Noise(rng, 9)(x, y, z)
    upper = np.clip((z + 70) / 110, 0.15, 1)
    holes = np.clip((noise - 1.1 + 0.45 * finding.severity) * 2, 0, 1) * upper * 0.85
    canvas.infiltrate(window, holes.astype(np.float32), -990.0)
    s = chest.patient.scale
    for _ in range((0, 3, 7)[finding.severity - 1]):
        side = 1 if rng.random() < 0.5 else -1
        centre = np.array([side * rng.uniform(48, 84), rng.uniform(-30, 35), rng.uniform(25, 72)]) * s
        radius = rng.uniform(9, 13 + 5 * finding.severity) * s
        wall = canvas.ellipsoid(centre, [radius + 1.2] * 3)
        if wall is not None:
            canvas.infiltrate(wall[0], wall[1] * min(1.0, 2 / canvas.axes.voxel_mm), -150.0)
        bulla = canvas.ellipsoid(centre, [radius] * 3)
        if bulla is not None:
            canvas.infiltrate(*bulla, -995.0)


def _fibrosis(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    window = _lung_window(canvas, 0)
    if window is None:
        return
    x, y, z = canvas.coordinates(window)
    noise = Noise(own_rng(chest, finding), 6.5)(x, y, z)
    width, depth, centre = (values[window[0], None, None] for values in chest.cavity(canvas.axes.z))
    level = np.sqrt((x / width) ** 2 + ((y - centre) / depth) ** 2)
    rim = np.clip((level - (0.86, 0.76, 0.62)[finding.severity - 1]) * 6, 0, 1)
    low = np.clip((30 - z) / 90, 0, 1) * (0.75, 0.9, 1.0)[finding.severity - 1]
    net = np.exp(-((noise / 0.3) ** 2)) * (0.42, 0.55, 0.72)[finding.severity - 1]
    canvas.infiltrate(window, (rim * low * (net + 0.07 * finding.severity)).astype(np.float32), 20.0)


def _growth(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    """A round nodule or a lobulated, sometimes hollow mass."""
    centre, radius = lobe_place(chest, finding), float(finding.size_mm or 10) / 2
    reach = radius * 1.4 + 3
    window = canvas.window(centre - reach, centre + reach)
    if window is None:
        return
    x, y, z = canvas.coordinates(window)
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2).astype(np.float32)
    bumps = Noise(own_rng(chest, finding), max(4.0, radius * 0.55))(x, y, z)
    lumpy = 0.07 if finding.concept == "nodule" else 0.13
    inside = radius * (1 + lumpy * bumps) - distance
    calcified = finding.concept == "nodule" and finding.at[2] > 0.8
    canvas.infiltrate(window, canvas.soften(inside), 380.0 if calcified else 40.0)
    if is_cavity(finding):
        canvas.infiltrate(window, canvas.soften(inside - 0.42 * radius), -960.0)


def is_cavity(finding: PhantomFinding) -> bool:
    return finding.concept == "mass" and finding.at[1] > 0.75


def _adenopathy(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    rng = own_rng(chest, finding)
    centre, size = hilum(chest, finding.side), float(finding.size_mm or 15)
    for number in range(3 + finding.severity):
        radius = size / 2 * (1 if number == 0 else rng.uniform(0.5, 0.85))
        offset = rng.normal(0, 1, 3) * [3, 5, size * 0.3] + [finding.side * (4 + size * 0.15), 0, -6]
        canvas.ball(centre + offset, [radius, radius, radius * 1.15], 42.0)
