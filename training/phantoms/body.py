"""Skin, fat, muscle, breasts and shoulders: everything outside the rib cage."""

from __future__ import annotations

import numpy as np

from radir_pacs.types import F32

from .canvas import Canvas, Noise
from .patient import Chest

FAT_HU, MUSCLE_HU, AIR_HU = -98.0, 48.0, -1000.0

# Half width and half depth of the muscular body (inside the fat) at heights above the carina, for an average man.
_HEIGHTS = (-260, -200, -120, -40, 0, 30, 60, 85, 100, 115, 132, 150, 200)
_WIDTHS = (141, 146, 153, 158, 163, 172, 178, 168, 143, 106, 74, 60, 56)
_DEPTHS = (98, 104, 108, 107, 106, 104, 98, 88, 80, 72, 64, 60, 58)


def paint_body(canvas: Canvas, chest: Chest) -> None:
    """Fill the skin with muscle under a layer of fat, and the rib cage with loose fat."""
    p, axes = chest.patient, canvas.axes
    # The body scales with persons broader or deeper than average.
    broad = p.half_width_mm - 134
    deep = p.half_depth_mm - 86
    heights = np.asarray(_HEIGHTS) * p.scale
    half_width = np.interp(axes.z, heights, _WIDTHS) + broad
    half_depth = np.interp(axes.z, heights, _DEPTHS) + deep
    centre = np.interp(axes.z, np.asarray([-120, 40, 150]) * p.scale, [6, 14, 24])
    exponent = np.float32(2.5)
    wide = (np.abs(axes.x)[None, :] / half_width[:, None]) ** exponent
    away = (np.abs(axes.y[None, :] - centre[:, None]) / half_depth[:, None]) ** exponent
    # Approximate distance outside the muscle in mm; the fat follows it.
    unit = (np.minimum(half_width, half_depth) / exponent)[:, None]
    outside = ((wide - 1) * unit).astype(np.float32)[:, None, :] + (away * unit).astype(np.float32)[:, :, None]
    fat = np.float32(p.fat_mm) * np.interp(axes.z, [-160, 20, 110], [1.15, 0.9, 0.55]).astype(np.float32)[:, None, None]
    canvas.hu += canvas.soften(fat - outside) * (FAT_HU - AIR_HU)
    canvas.hu += canvas.soften(-outside) * (MUSCLE_HU - FAT_HU)
    _paint_breasts(canvas, chest)


def _paint_breasts(canvas: Canvas, chest: Chest) -> None:
    p = chest.patient
    if not p.breast_mm:
        return
    droop = 12 + 0.3 * max(0, p.age_years - 40)
    front = -(p.half_depth_mm + 14)
    for side in (-1, 1):
        centre = (side * 76 * p.scale, front, -62 * p.scale - droop)
        wide, deep, low = p.breast_mm * 0.8 + 36, p.breast_mm * 0.72 + 16, p.breast_mm * 0.8 + 26
        window = canvas.window(
            (centre[0] - wide, front - deep, centre[2] - low), (centre[0] + wide, front + 70, centre[2] + 2.2 * low)
        )
        if window is None:
            continue
        x, y, z = canvas.coordinates(window)
        # A drop: thickest in the middle, fading out upwards, ending in a fold below.
        above = np.clip((z - centre[2]) / (2.2 * low), 0, 1)
        below = np.clip((centre[2] - z) / low, 0, 1)
        across = np.clip((x - centre[0]) / wide, -1, 1)
        thickness = deep * np.sqrt(np.maximum(1 - across**2 - below**2, 0)) * (1 - above) ** 2 * (1 + 2 * above)
        ahead = y - front - 42 * above**1.5  # the chest wall leans back towards the clavicles
        inside = np.minimum(thickness + ahead, 1.6 * thickness - ahead) - 1
        coverage = canvas.soften(inside - canvas.axes.voxel_mm / 2)
        view = canvas.hu[window]
        # Only the part in front of the chest wall: fat with strands of gland, in air.
        view += coverage * np.clip((-350 - view) / 300, 0, 1) * (-70 - view)


def loose_tissue_hu(chest: Chest, rng: np.random.Generator) -> tuple[float, Noise]:
    """Mean density of mediastinal fat, and the random field of its strands."""
    return float(np.interp(chest.patient.fat_mm, [6, 30], [-30, -85])), Noise(rng, 14)


def chest_wall_fat_planes(canvas: Canvas, noise: Noise) -> None:
    """Thin fat planes between the muscles, so that CT does not show them as one piece."""
    axes = canvas.axes
    seams: F32 = np.clip(np.abs(noise(axes.x, axes.y, axes.z)) * 6, 0, 1)
    muscle = (canvas.hu > MUSCLE_HU - 3) & (canvas.hu < MUSCLE_HU + 3)
    canvas.hu[muscle] -= (1 - seams[muscle]) * 70
