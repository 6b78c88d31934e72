"""Tubes, lines, pacemakers and calcium: dense, thin structures, painted last."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, smooth_path
from .findings import PhantomFinding
from .patient import Chest
from .places import arch_knob

METAL_HU, LEAD_HU, LINE_HU, PLASTIC_HU, CALCIUM_HU = 6500.0, 7000.0, 3000.0, 900.0, 800.0


def paint_devices(canvas: Canvas, chest: Chest) -> None:
    painters = {
        "pacemaker": _pacemaker,
        "endotracheal_tube": _endotracheal_tube,
        "nasogastric_tube": _nasogastric_tube,
        "central_line": _central_line,
        "aortic_calcification": _aortic_calcification,
    }
    for finding in chest.findings:
        if finding.concept in painters:
            painters[finding.concept](canvas, chest, finding)


def tube_tip_mm(finding: PhantomFinding) -> float:
    """Height of the tip of an endotracheal tube above the carina; negative in a bronchus."""
    return (34.0 + 20 * finding.at[0], 8.0 + 8 * finding.at[0], -18.0)[finding.severity - 1]


def _endotracheal_tube(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    s, tip = chest.patient.scale, tube_tip_mm(finding)
    path = [(0, 8, 176), (0, 12, 90), (1, 19, max(tip, 30))]
    if tip < 30:
        path.append((0, 21, max(tip, 4)))
    if tip < 0:
        path.append((-20, 21, tip))
    points = np.asarray(path) * s
    canvas.tube(points, 5.0, PLASTIC_HU)
    canvas.tube(points, 3.2, -990.0)
    canvas.tube(points + np.array([4.2, 0, 0]), 1.4, METAL_HU)


def _nasogastric_tube(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    s = chest.patient.scale
    dome = chest.left_dome_mm / s
    path = [(3, 36, 175), (3, 36, 120), (5, 34, 20), (6, 34, -60), (12, 22, dome - 6)]
    if finding.severity == 1:
        path += [(26, 4, dome - 36), (52, -12, dome - 52), (40, -22, dome - 78)]
    canvas.tube(smooth_path(np.asarray(path) * s, 3), 2.4, 1900.0)


def _central_line(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    s = chest.patient.scale
    tip = (-22.0, -62.0, -62.0)[finding.severity - 1]
    path = [(-46, -6, 170), (-40, -8, 120), (-31, -8, 84), (-24, -4, 44), (-27, -8, 0), (-27, -10, tip)]
    canvas.tube(smooth_path(np.asarray(path) * s, 3), 1.5, LINE_HU)


def _pacemaker(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    """Severity 1 has one lead, 2 has two, 3 is a defibrillator with a coil."""
    p = chest.patient
    s, h = p.scale, chest.heart_scale
    front = -(p.half_depth_mm + 13)
    width, depth, centre = (float(values[0]) for values in chest.cavity(np.array([46 * s])))
    # Under the skin, on the ribs below the left clavicle.
    box = np.array([76 * s, centre - (depth + 17) * np.sqrt(1 - (76 * s / (width + 17)) ** 2), 46 * s])
    _paint_can(canvas, box)
    canvas.ball(box + np.array([0, 0, 21]), (11, 5, 6), 1600.0)
    start = box + np.array([-6, 0, 24])
    shared = [
        tuple(start),
        (92 * s, front * 0.7, 84 * s),
        (58 * s, -34, 80 * s),
        (20 * s, -20, 58 * s),
        (-18 * s, -12, 46 * s),
    ]
    floor = min(chest.right_dome_mm, chest.left_dome_mm) + 6
    to_apex = [(-26 * s, -8, 0), (-27 * s, -12, -48 * s), (-8, -30, floor + 10), (36 * h, -46, floor - 4)]
    lead = smooth_path([*shared, *to_apex], 4)
    canvas.tube(lead, 1.1, LEAD_HU)
    canvas.tube(lead[-2:], 1.8, METAL_HU)
    if finding.severity >= 2:
        to_atrium = [(-23 * s, -8, 0), (-25 * s, -12, -58 * s), (-34 * s, -26, -66 * s), (-38 * s, -34, -48 * s)]
        beside = [tuple(np.asarray(point) + 1.3) for point in shared]
        canvas.tube(smooth_path([*beside, *to_atrium], 4), 1.1, LEAD_HU)
    if finding.severity == 3:
        canvas.tube(lead[-8:-1], 2.6, METAL_HU)


def _paint_can(canvas: Canvas, centre: np.ndarray) -> None:
    """The generator: a flat box with round corners."""
    reach = np.array([25, 8, 23])
    window = canvas.window(centre - reach, centre + reach)
    if window is not None:
        x, y, z = canvas.coordinates(window)
        across = np.sqrt(np.sqrt(((x - centre[0]) / 24) ** 4 + ((z - centre[2]) / 21) ** 4))
        inside = np.minimum((1 - across) * 21, 4.0 - np.abs(y - centre[1]))
        canvas.paint(window, canvas.soften(inside.astype(np.float32)), METAL_HU)


def _aortic_calcification(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    """Plaques in the wall of the arch, a crescent on the frontal view."""
    centre, radius = arch_knob(chest)
    rng = np.random.default_rng([chest.patient.seed, 17])
    reach = (0.9, 1.7, 2.6)[finding.severity - 1]
    for offset in np.linspace(-9, 9, 2 + 2 * finding.severity):
        begin = 0.35 - reach / 2 + rng.uniform(-0.2, 0.2)
        angles = np.linspace(begin, begin + reach * rng.uniform(0.6, 1), 7)
        ring = np.sqrt(max(radius**2 - 0.2 * offset**2, 1.0))
        arc = np.stack(
            [centre[0] + ring * np.cos(angles), np.full(7, centre[1] + offset), centre[2] + ring * np.sin(angles)], 1
        )
        canvas.tube(arc, 0.8 + 0.25 * finding.severity, CALCIUM_HU)
