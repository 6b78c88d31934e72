"""Boxes around regions on the frontal radiograph, from the phantom's own anatomy."""

from __future__ import annotations

import numpy as np

from .canvas import SIZES, TOP_MM, Axes, Canvas, Noise, Size
from .findings import LOBES
from .lungs import lobe_weight, paint_lungs
from .mediastinum import aorta_path, aorta_radii, heart_parts, reach_of
from .patient import Chest
from .places import hilum

Box = tuple[float, float, float, float]  # left, top, right, bottom as fractions of the picture
_Extent = tuple[float, float, float, float]  # x from, x to, z from, z to in mm


def frontal_boxes(chest: Chest, size: Size) -> dict[str, Box]:
    """Region key -> box (left, top, right, bottom) as fractions of the frontal picture."""
    extents = _lung_extents(chest)
    extents.update(_solid_extents(chest, extents))
    half, field = size.field_mm / 2, size.field_mm
    boxes = {}
    for key, (x0, x1, z0, z1) in extents.items():
        edges = ((x0 + half) / field, (TOP_MM - z1) / field, (x1 + half) / field, (TOP_MM - z0) / field)
        left, top, right, bottom = (round(min(1.0, max(0.0, edge)), 4) for edge in edges)
        boxes[key] = (left, top, right, bottom)
    return boxes


def _lung_extents(chest: Chest) -> dict[str, _Extent]:
    """Lobes and lungs, found by painting the lungs alone on a coarse grid."""
    canvas = Canvas(Axes.covering(SIZES["tiny"], 2 * chest.patient.half_depth_mm + 30))
    paint_lungs(canvas, chest, -50.0, Noise(np.random.default_rng(0), 60))
    x, y, z = canvas.coordinates((slice(None), slice(None), slice(None)))
    axes = canvas.axes
    extents = {}
    for key in (*LOBES, "right_lung", "left_lung"):
        seen = np.any(canvas.lung * lobe_weight(chest, key, x, y, z) > 0.5, axis=1)
        rows, columns = np.nonzero(seen.any(axis=1))[0], np.nonzero(seen.any(axis=0))[0]
        h = axes.voxel_mm / 2
        extents[key] = (
            float(axes.x[columns[0]]) - h,
            float(axes.x[columns[-1]]) + h,
            float(axes.z[rows[0]]) - h,
            float(axes.z[rows[-1]]) + h,
        )
    extents["lungs"] = _around(extents["right_lung"], extents["left_lung"])
    return extents


def _solid_extents(chest: Chest, lungs: dict[str, _Extent]) -> dict[str, _Extent]:
    p = chest.patient
    s = p.scale
    right, left = lungs["right_lung"], lungs["left_lung"]
    path = aorta_path(chest)
    radii = aorta_radii(chest, path)
    found: dict[str, _Extent] = {
        "pleura": lungs["lungs"],
        "right_pleura": right,
        "left_pleura": left,
        "right_costophrenic_angle": (
            right[0],
            right[0] + 38 * s,
            chest.right_dome_mm - 58 * s,
            chest.right_dome_mm - 10,
        ),
        "left_costophrenic_angle": (left[1] - 38 * s, left[1], chest.left_dome_mm - 58 * s, chest.left_dome_mm - 10),
        "right_hemidiaphragm": (right[0], -20 * s, chest.right_dome_mm - 35 * s, chest.right_dome_mm + 6),
        "left_hemidiaphragm": (20 * s, left[1], chest.left_dome_mm - 35 * s, chest.left_dome_mm + 6),
        "heart": _heart_extent(chest),
        "aortic_arch": _tube(path[9:19], radii[9:19]),
        "thoracic_aorta": _tube(path[:25], radii[:25]),
        "trachea": (-14 * s, 14 * s, 0.0, TOP_MM),
        "carina": (-18 * s, 18 * s, -16 * s, 16 * s),
        "superior_vena_cava": (-42 * s, -12 * s, -50 * s, 48 * s),
        "spine": (-34 * s, 34 * s, -260.0, TOP_MM),
        "thoracic_spine": (-34 * s, 34 * s, -190 * s, p.apex_mm + 12),
        "stomach": (8 * s, 98 * s, chest.left_dome_mm - 88 * s, chest.left_dome_mm - 4),
        "right_ribs": (-p.half_width_mm - 12, -14 * s, -190 * s, p.apex_mm + 14),
        "left_ribs": (14 * s, p.half_width_mm + 12, -190 * s, p.apex_mm + 14),
        "right_clavicle": (-152 * s, -12 * s, 46 * s, 102 * s),
        "left_clavicle": (12 * s, 152 * s, 46 * s, 102 * s),
    }
    for side, name in ((-1, "right"), (1, "left")):
        x, _, z = hilum(chest, side)
        found[f"{name}_hilum"] = (x - 24 * s, x + 24 * s, z - 36 * s, z + 28 * s)
    for whole, parts in {
        "aorta": ("thoracic_aorta",),
        "ribs": ("right_ribs", "left_ribs"),
        "costophrenic_angles": ("right_costophrenic_angle", "left_costophrenic_angle"),
        "diaphragm": ("right_hemidiaphragm", "left_hemidiaphragm"),
        "hila": ("right_hilum", "left_hilum"),
        "mediastinum": ("heart", "thoracic_aorta", "superior_vena_cava"),
        "bones": ("right_ribs", "left_ribs", "right_clavicle", "left_clavicle", "spine"),
    }.items():
        found[whole] = _around(*(found[part] for part in parts))
    return found


def _heart_extent(chest: Chest) -> _Extent:
    spans = []
    for centre, radii, turn in heart_parts(chest):
        reach = reach_of(radii, turn)
        spans.append((centre[0] - reach[0], centre[0] + reach[0], centre[2] - reach[2], centre[2] + reach[2]))
    return _around(*spans)


def _tube(path: np.ndarray, radii: np.ndarray) -> _Extent:
    x, z = path[:, 0], path[:, 2]
    return float((x - radii).min()), float((x + radii).max()), float((z - radii).min()), float((z + radii).max())


def _around(*extents: _Extent) -> _Extent:
    low_x, high_x, low_z, high_z = zip(*extents, strict=True)
    return float(min(low_x)), float(max(high_x)), float(min(low_z)), float(max(high_z))
