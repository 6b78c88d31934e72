"""Fluid and air in the pleural space."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .findings import PhantomFinding
from .lungs import APEX_BASE_MM, apex_dome
from .patient import Chest

FLUID_HU, AIR_HU = 8.0, -997.0


def paint_pleural_findings(canvas: Canvas, chest: Chest) -> None:
    for finding in chest.findings:
        if finding.concept == "pneumothorax":
            _pneumothorax(canvas, chest, finding)
    for finding in chest.findings:
        if finding.concept == "effusion":
            _effusion(canvas, chest, finding)


def effusion_level_mm(chest: Chest, finding: PhantomFinding) -> float:
    """Height of the fluid in the middle of the hemithorax."""
    top = chest.right_dome_mm if finding.side < 0 else chest.left_dome_mm
    return top + (-34 + 12 * finding.at[0], 6 + 26 * finding.at[0], 58 + 60 * finding.at[0])[finding.severity - 1]


def _half(canvas: Canvas, side: int) -> slice:
    middle = int(np.searchsorted(canvas.axes.x, 0))
    return slice(0, middle) if side < 0 else slice(middle, None)


def _effusion(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    """Fluid with a meniscus: it rises along the chest wall, most laterally and posteriorly."""
    axes, columns = canvas.axes, _half(canvas, finding.side)
    level = effusion_level_mm(chest, finding)
    top = int(np.searchsorted(axes.z, level + 75))
    if top == 0:
        return
    window = (slice(0, top), slice(None), columns)
    x, y, z = canvas.coordinates(window)
    width, depth, centre = (values[:top, None, None] for values in chest.cavity(axes.z))
    wall = np.sqrt((x / width) ** 2 + ((y - centre) / depth) ** 2)
    climb = (26 + 7 * finding.severity) * np.clip((wall - 0.5) / 0.5, 0, 1) ** 3 + 14 * np.clip(y / 80, -0.5, 1)
    fluid = np.clip((level + climb - z) / (canvas.axes.voxel_mm + 2) + 0.5, 0, 1) * canvas.lung[window]
    view = canvas.hu[window]
    # The lung under fluid is compressed.
    view += fluid * (FLUID_HU - np.minimum(view, FLUID_HU))
    canvas.lung[window] -= fluid


def _pneumothorax(canvas: Canvas, chest: Chest, finding: PhantomFinding) -> None:
    """The lung shrinks towards its hilum, leaving air behind a thin pleural line."""
    axes, columns, side = canvas.axes, _half(canvas, finding.side), finding.side
    window = (slice(None), slice(None), columns)
    lung = canvas.lung[window]
    if not lung.any():
        return
    x, y, z = canvas.coordinates(window)
    s = chest.patient.scale
    keep = (0.89, 0.77, 0.5)[finding.severity - 1] - 0.05 * finding.at[0]
    # Air rises: the lung falls from the apex more than from the base.
    root = np.array([side * 34.0, 14.0, -95.0 + 25 * finding.severity]) * s
    px, py, pz = (root[i] + (value - root[i]) / keep for i, value in enumerate((x, y, z)))
    width, depth, centre = (values[:, None, None] for values in chest.cavity(np.ravel(pz)))
    level = np.sqrt((px / width) ** 2 + ((py - centre) / depth) ** 2)
    shape = (1 - level) * np.minimum(width, depth)
    dome = apex_dome(chest, px, py, pz, side)
    shape = np.where(pz > APEX_BASE_MM * s, np.minimum(shape, dome), shape) * keep
    inside = canvas.soften(shape.astype(np.float32))
    view = canvas.hu[window]
    squeezed = (1 - keep) * 330 if finding.severity < 3 else 330
    view += lung * inside * (squeezed - 0.2 * np.maximum(view + 800, 0))
    view += lung * (1 - inside) * (AIR_HU - view)
    line = np.clip(1 - np.abs(shape) / max(1.0, 0.75 * axes.voxel_mm), 0, 1) * min(1.0, 1.3 / axes.voxel_mm)
    view += (lung * line).astype(np.float32) * (0 - view)
    canvas.lung[window] = lung * inside
