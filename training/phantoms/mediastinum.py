"""Heart, great vessels, airways and oesophagus."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, rotation, smooth_path
from .patient import Chest

BLOOD_HU, MYOCARDIUM_HU, FAT_HU, AIR_HU, WALL_HU = 42.0, 46.0, -92.0, -995.0, 25.0
_MELT_MM = 5.0


def paint_mediastinum(canvas: Canvas, chest: Chest) -> None:
    _paint_great_veins(canvas, chest)
    _paint_pulmonary_arteries(canvas, chest)
    _paint_heart(canvas, chest)
    _paint_aorta(canvas, chest)
    _paint_airways(canvas, chest)


def heart_parts(chest: Chest) -> list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """The heart as ellipsoids: centre, radii, rotation. It sits on the diaphragm and grows to the left."""
    h = chest.heart_scale
    s = chest.patient.scale
    floor = max(-160 * s, min(chest.right_dome_mm, chest.left_dome_mm) - 16 * s)
    base = np.array([4.0 * s, -22.0, floor + 44 * h])
    grow = h - 1
    return [
        # Left ventricle, its long axis to the left, down and forward.
        (base + np.array([27 + 20 * grow, -6, -6]) * h, np.array([55, 40, 37]) * h, rotation(-28, 0, 32)),
        # Right ventricle in front, on the diaphragm.
        (base + np.array([4, -24, -14]) * h, np.array([46, 27, 31]) * h, rotation(-12, 0, 14)),
        # Right atrium: the right border.
        (base + np.array([-22 - 8 * grow, 2, 6]) * h, np.array([23, 30, 44]) * h, rotation(0, 0, -6)),
        # Left atrium at the back, under the carina.
        (base + np.array([3, 26, 22]) * h, np.array([33, 21, 26]) * h, None),
        # The flat underside, resting on the diaphragm.
        (base + np.array([18 + 10 * grow, -10, -31]) * h, np.array([58, 40, 17]) * h, rotation(-18, 0, 10)),
        # Outflow tract and atrial appendage: the waist of the left border.
        (base + np.array([13, -12, 42]) * h, np.array([23, 24, 32]) * h, rotation(0, 0, -16)),
    ]


def _paint_heart(canvas: Canvas, chest: Chest) -> None:
    """One smooth body: the parts are blended, so that no seam shows on the heart's outline."""
    fat = 2.5 + 0.12 * chest.patient.fat_mm
    parts = heart_parts(chest)
    low = np.min([centre - reach_of(radii, turn) for centre, radii, turn in parts], axis=0) - fat - 4
    high = np.max([centre + reach_of(radii, turn) for centre, radii, turn in parts], axis=0) + fat + 4
    window = canvas.window(low, high)
    if window is None:
        return
    x, y, z = canvas.coordinates(window)
    melted = np.zeros((1, 1, 1), np.float32)
    for centre, radii, turn in parts:
        rows = ((np.eye(3) if turn is None else turn) / radii[:, None]).astype(np.float32)
        u, v, w = (
            row[0] * (x - np.float32(centre[0]))
            + row[1] * (y - np.float32(centre[1]))
            + row[2] * (z - np.float32(centre[2]))
            for row in rows
        )
        depth = (1 - np.sqrt(u * u + v * v + w * w)) * np.float32(radii.min() / _MELT_MM)
        melted = melted + np.exp(np.clip(depth, -12, 12))
    inside = np.log(melted) * np.float32(_MELT_MM) - np.float32(2)
    canvas.paint(window, canvas.soften(inside + np.float32(fat)), FAT_HU)
    canvas.paint(window, canvas.soften(inside), MYOCARDIUM_HU)


def reach_of(radii: np.ndarray, turn: np.ndarray | None) -> np.ndarray:
    """Half extents along x, y, z of a turned ellipsoid."""
    return radii if turn is None else np.asarray(np.sqrt(((turn.T * radii) ** 2).sum(axis=1)))


def aorta_path(chest: Chest) -> np.ndarray:
    """Centre line of the thoracic aorta from the valve to the abdomen."""
    s, unfold = chest.patient.scale, chest.patient.unfolding
    _, spine_y = chest.spine(np.array([0.0, -60, -120, -200]))
    r = chest.descending_radius_mm
    beside = [float(y) - r - 2 for y in spine_y]
    out = 7 * unfold
    points = [
        (2, -14, -52),
        (-14 - out, -20, -26),
        (-16 - out, -18, 4),
        (-7, -8, 27 + 4 * unfold),
        (9 + out / 2, 10, 33 + 5 * unfold),
        (22 + out, 28, 24 + 4 * unfold),
        (25 + out, beside[0] / s, -4),
        (23 + out, beside[1] / s, -60),
        (17 + out / 2, beside[2] / s, -120),
        (8, beside[3] / s, -200),
        (4, beside[3] / s, -260),
    ]
    return smooth_path(np.asarray(points) * s, 3)


def aorta_radii(chest: Chest, path: np.ndarray) -> np.ndarray:
    knots = np.linspace(0, 1, 11)
    a, b, c = chest.ascending_radius_mm, chest.arch_radius_mm, chest.descending_radius_mm
    return np.interp(np.linspace(0, 1, len(path)), knots, [a, a * 1.03, a, b, b, b, c, c, c * 0.95, c * 0.88, c * 0.85])


def _paint_aorta(canvas: Canvas, chest: Chest) -> None:
    path = aorta_path(chest)
    radii = aorta_radii(chest, path)
    canvas.tube(path, radii + 1, 20.0)
    canvas.tube(path, radii, BLOOD_HU)
    s = chest.patient.scale
    for root, tip in (((-8, -8, 38), (-24, 2, 95)), ((8, 8, 42), (14, 10, 120)), ((18, 20, 38), (30, 16, 95))):
        canvas.tube(np.asarray([root, tip]) * s, [6.5 * s, 4.5 * s], BLOOD_HU)


def _paint_great_veins(canvas: Canvas, chest: Chest) -> None:
    s = chest.patient.scale
    cava = [(-23, -4, 44), (-27, -8, 0), (-27, -10, -50)]
    canvas.tube(np.asarray(cava) * s, [9 * s, 10.5 * s, 12 * s], BLOOD_HU)
    canvas.tube(np.asarray([(-23, -4, 44), (-30, -8, 84)]) * s, [8 * s, 7 * s], BLOOD_HU)
    canvas.tube(np.asarray([(-20, -14, 46), (20, -20, 58), (38, -16, 82)]) * s, 7 * s, BLOOD_HU)
    canvas.tube(np.asarray([(-20, 8, -95), (-21, 12, -180)]) * s, 11 * s, BLOOD_HU)


def _paint_pulmonary_arteries(canvas: Canvas, chest: Chest) -> None:
    s = chest.patient.scale
    swell = 0.5 + 0.5 * chest.vessel_scale
    left = [(14, -24, -44), (20, -14, -18), (26, 4, -6), (40, 20, -4), (48, 28, -22), (53, 30, -48), (56, 30, -70)]
    canvas.tube(
        smooth_path(np.asarray(left) * s, 2),
        np.interp(np.linspace(0, 1, 13), [0, 0.4, 1], [14, 10.5, 4.5]) * s * swell,
        BLOOD_HU,
    )
    right = [(20, -12, -16), (0, -4, -18), (-24, 6, -20), (-44, 14, -26), (-52, 18, -50), (-56, 20, -76)]
    canvas.tube(
        smooth_path(np.asarray(right) * s, 2),
        np.interp(np.linspace(0, 1, 11), [0, 0.5, 1], [12, 10, 4.5]) * s * swell,
        BLOOD_HU,
    )
    for side, top in ((-1, -12), (1, 2)):
        canvas.tube(
            np.asarray([(side * 42, 12, top - 8), (side * 54, 6, top + 18)]) * s, [6 * s * swell, 3.6 * s], BLOOD_HU
        )
        # Lower pulmonary veins run flat into the left atrium.
        canvas.tube(
            np.asarray([(side * 14, 22, -52), (side * 46, 34, -64), (side * 68, 40, -80)]) * s,
            [8 * s, 5 * s, 3 * s],
            BLOOD_HU,
        )


def _paint_airways(canvas: Canvas, chest: Chest) -> None:
    s = chest.patient.scale
    canvas.tube(np.asarray([(3, 36, 150), (5, 34, 20), (6, 34, -60), (14, 20, -150)]) * s, 6.5 * s, 30.0)
    branches = [
        ([(0, 8, 175), (0, 12, 90), (1, 20, 30), (0, 22, 3)], [8.4, 8.8, 8.8, 9.0]),
        ([(0, 22, 3), (-14, 22, -14), (-30, 20, -27)], [8.0, 7.2, 6.8]),
        ([(-24, 20, -20), (-44, 18, -10), (-54, 14, 4)], [5.2, 4.0, 2.6]),
        ([(-30, 20, -27), (-38, 22, -50), (-46, 30, -78)], [6.2, 5.2, 2.8]),
        ([(-36, 20, -44), (-50, 0, -58)], [4.0, 2.6]),
        ([(0, 22, 3), (18, 24, -16), (40, 26, -32)], [7.4, 6.4, 5.8]),
        ([(40, 26, -32), (54, 12, -22), (62, 4, -8)], [4.6, 3.6, 2.4]),
        ([(40, 26, -32), (48, 34, -56), (56, 40, -82)], [5.0, 4.2, 2.4]),
    ]
    for points, radii in branches:
        canvas.tube(np.asarray(points) * s, np.asarray(radii) * s + 1.6, WALL_HU)
    for points, radii in branches:
        canvas.tube(np.asarray(points) * s, np.asarray(radii) * s, AIR_HU)
