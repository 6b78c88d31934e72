"""Where in millimetres a finding sits in a given chest."""

from __future__ import annotations

import numpy as np

from .findings import PhantomFinding
from .mediastinum import aorta_path
from .patient import Chest

# Corners between which the centre of a focal finding is drawn, for an average man: |x|, y, z from low to high.
_LOBES = {
    "right_upper_lobe": ((46, -40, 8), (80, 30, 62)),
    "right_middle_lobe": ((48, -58, -76), (82, -32, -54)),
    "right_lower_lobe": ((48, 26, -100), (92, 56, -42)),
    "left_upper_lobe": ((48, -42, -16), (82, 12, 62)),
    "left_lower_lobe": ((58, 26, -104), (92, 56, -42)),
}


def lobe_place(chest: Chest, finding: PhantomFinding) -> np.ndarray:
    """Centre (x, y, z) of a focal finding in a lobe, drawn inwards when it is large."""
    low, high = (np.asarray(corner, float) for corner in _LOBES[finding.region])
    at = np.asarray(finding.at)
    if finding.size_mm:  # keep masses off the chest wall
        room = np.clip(1 - finding.size_mm / 90, 0.15, 1)
        at = 0.42 + (at - 0.42) * room
    centre = low + (high - low) * at
    centre[2] = max(centre[2], _floor(chest, finding.side) + 18)
    return np.asarray(centre * np.array([finding.side, 1, 1]) * chest.patient.scale)


def _floor(chest: Chest, side: int) -> float:
    return (chest.right_dome_mm if side < 0 else chest.left_dome_mm) / chest.patient.scale


def hilum(chest: Chest, side: int) -> np.ndarray:
    return np.array([side * 47.0, 16.0, -20.0 if side < 0 else -8.0]) * chest.patient.scale


def arch_knob(chest: Chest) -> tuple[np.ndarray, float]:
    """Centre and radius of the aortic knob."""
    path = aorta_path(chest)
    return path[14], chest.arch_radius_mm
