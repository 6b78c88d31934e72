"""Lungs, their lobes and the tree of vessels in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radir_pacs.types import F32

from .canvas import Axes, Canvas, Noise
from .patient import CAVITY_POWER, Chest

APEX_BASE_MM = 20.0  # above here the lung narrows to its dome


def paint_lungs(canvas: Canvas, chest: Chest, loose_hu: float, noise: Noise) -> None:
    """Hollow out the rib cage: loose tissue in the middle and under the diaphragm, lung on both sides."""
    axes = canvas.axes
    reach = chest.patient.half_width_mm + axes.voxel_mm
    depth = chest.patient.half_depth_mm + 40
    for side in (-1, 1):
        low, high = (-reach, -axes.voxel_mm / 2) if side < 0 else (axes.voxel_mm / 2, reach)
        window = canvas.window((low, -depth, axes.z[0]), (high, depth, chest.patient.apex_mm + 22))
        if window is None:
            continue
        # Windows are one voxel too large; the two must meet at the midline without sharing it.
        middle = int(np.searchsorted(axes.x, 0))
        columns = slice(window[2].start, middle) if side < 0 else slice(middle, window[2].stop)
        window = (window[0], window[1], columns)
        part = Axes(axes.z[window[0]], axes.y[window[1]], axes.x[columns], axes.voxel_mm)
        x, y, z = canvas.coordinates(window)
        width, depth_here, _ = chest.cavity(part.z)
        # Close to the wall, the power of the level gives the distance as well as the level itself.
        inside = (1 - chest.cavity_power(part)) * (np.minimum(width, depth_here) / CAVITY_POWER)[:, None, None]
        texture = noise(part.x, part.y, part.z)
        canvas.paint(window, canvas.soften(inside), loose_hu + np.float32(12) * texture)
        floor = chest.dome(part.x[None, :], part.y[:, None], side).astype(np.float32)
        shape = np.minimum(inside - np.float32(1.5), z - floor[None])
        np.minimum(shape, side * x - _midline(chest, y, z, side), out=shape)
        _round_apex(shape, chest, part, side)
        lung = canvas.soften(shape)
        texture *= 9
        texture += np.float32(chest.lung_hu) + np.float32(0.35) * y
        view = canvas.hu[window]
        view += lung * (texture - view)
        canvas.lung[window] = lung


def _midline(chest: Chest, y: F32, z: F32, side: int) -> F32:
    """How far the mediastinum reaches to one side: thin in front, wider at the great vessels and beside the spine."""
    s = chest.patient.scale
    middle = 17 * np.exp(-(((y - 12) / 34) ** 2)) * (0.35 + 0.65 / (1 + np.exp(-(z + 30) / 12)))
    upper = 6 / (1 + np.exp(-(z - 30) / 10))
    _, spine_y = chest.spine(np.ravel(z))
    spine = 20 * np.exp(-(((y - spine_y[:, None, None] + 2) / 19) ** 2))
    return np.asarray((8 + np.maximum(middle + upper, spine) - (2 if side < 0 else 0)) * s, np.float32)


def _round_apex(shape: F32, chest: Chest, axes: Axes, side: int) -> None:
    """Cut ``shape`` to the dome of the lung above the great vessels, in place."""
    start = int(np.searchsorted(axes.z, APEX_BASE_MM * chest.patient.scale))
    if start < len(axes.z):
        x, y, z = axes.x[None, None, :], axes.y[None, :, None], axes.z[start:, None, None]
        np.minimum(shape[start:], apex_dome(chest, x, y, z, side), out=shape[start:])


def apex_dome(chest: Chest, x: F32, y: F32, z: F32, side: int) -> F32:
    """Depth in mm under the dome of the lung, for places higher than its base; the dome is centred off the midline."""
    p = chest.patient
    base = APEX_BASE_MM * p.scale
    height = ((z - base) / (p.apex_mm - base)).astype(np.float32)
    across = side * x - 58 * p.scale
    dx = across / (np.where(across > 0, 72, 56) * p.scale).astype(np.float32)
    dy = (y - 12) / np.where(y > 12, p.half_depth_mm + 6, p.half_depth_mm + 26).astype(np.float32)
    dome: F32 = (1 - np.sqrt(np.sqrt(dx**4 + dy**4) + height**2)) * np.float32(62 * p.scale)
    return dome


def lobe_weight(chest: Chest, lobe: str, x: F32, y: F32, z: F32, soft_mm: float = 3.0) -> F32:
    """1 inside a lobe (or whole lung), 0 outside, between the two over the fissures. Broadcasts to [z, y, x]."""
    side = -1 if lobe.startswith("right") else 1
    weight = np.clip(0.5 + side * x / 4, 0, 1)
    if lobe.endswith("lung"):
        return np.asarray(weight, np.float32)
    above = above_oblique_fissure(chest, y, z)
    if lobe.endswith("lower_lobe"):
        return np.asarray(weight * np.clip(0.5 - above / soft_mm, 0, 1), np.float32)
    weight = weight * np.clip(0.5 + above / soft_mm, 0, 1)
    if side > 0:
        return np.asarray(weight, np.float32)
    over = (z - minor_fissure_mm(chest)) / soft_mm
    return np.asarray(weight * np.clip(0.5 + over if lobe == "right_upper_lobe" else 0.5 - over, 0, 1), np.float32)


def above_oblique_fissure(chest: Chest, y: F32, z: F32) -> F32:
    """Signed distance in mm above the oblique fissure, which falls from the back to the front."""
    s = chest.patient.scale
    slope = 0.98
    at_middle = -32 * s
    return np.asarray((z - at_middle - slope * (y - 10)) / np.hypot(1, slope), np.float32)


def minor_fissure_mm(chest: Chest) -> float:
    return -38.0 * chest.patient.scale


@dataclass(frozen=True)
class VesselTree:
    """Vessels as a cloud of points [n, (x, y, z)], each standing for ``mm3`` of blood."""

    points: F32
    mm3: F32

    def fraction(self, canvas: Canvas) -> F32:
        """The share of each voxel that is vessel, [z, y, x]."""
        axes, h = canvas.axes, canvas.axes.voxel_mm
        shape = canvas.hu.shape
        position = (self.points - np.asarray([axes.x[0], axes.y[0], axes.z[0]], np.float32)) / np.float32(h)
        near = ((position > -1) & (position < np.asarray(shape[::-1], np.float32))).all(axis=1)
        position, mm3 = position[near], self.mm3[near]
        base = np.floor(position).astype(np.int32)
        part = position - base
        # Trilinear: each point is shared among eight voxels of a grid one voxel larger on every side.
        rows, columns = shape[1] + 2, shape[2] + 2
        first = ((base[:, 2] + 1) * rows + base[:, 1] + 1) * columns + base[:, 0] + 1
        places, shares = [], []
        for dz in (0, 1):
            along_z = (part[:, 2] if dz else 1 - part[:, 2]) * mm3
            for dy in (0, 1):
                along_y = along_z * (part[:, 1] if dy else 1 - part[:, 1])
                for dx in (0, 1):
                    places.append(first + (dz * rows + dy) * columns + dx)
                    shares.append(along_y * (part[:, 0] if dx else 1 - part[:, 0]))
        padded = np.bincount(np.concatenate(places), np.concatenate(shares), minlength=(shape[0] + 2) * rows * columns)
        total = padded.reshape(shape[0] + 2, rows, columns)[1:-1, 1:-1, 1:-1]
        fraction: F32 = np.minimum(total / h**3, 1).astype(np.float32)
        return fraction


def grow_vessels(chest: Chest, voxel_mm: float) -> VesselTree:
    """Branch the pulmonary vessels from both hila to the pleura, by generations."""
    rng = np.random.default_rng([chest.patient.seed, 11])
    s = chest.patient.scale
    starts, directions, radii = [], [], []
    for side in (-1, 1):
        hilum = np.array([side * 40.0, 18.0, -18.0 if side < 0 else -8.0]) * s
        for number in range(13):
            up = np.cos(np.pi * (number + 0.5) / 13) + rng.normal(0, 0.08)
            front = rng.uniform(-1.0, 1.0)
            direction = np.array([side * (0.75 - 0.35 * abs(up)), 0.75 * front, 1.15 * up - 0.18])
            starts.append(hilum + np.array([side * 6, 8 * front, 16 * up - 8]) * s)
            directions.append(direction / np.linalg.norm(direction))
            # Standing, more blood flows to the bases.
            radii.append((2.7 if up > 0.2 else 3.9) * (0.85 + 0.3 * rng.random()) * s)
    start, direction, radius = np.array(starts), np.array(directions), np.array(radii)
    length = np.full(len(start), 32.0 * s)
    points, volumes = [], []
    for generation in range(7):
        end = start + direction * length[:, None] + rng.normal(0, 1.5, start.shape)
        points_now, volumes_now = _fill(
            start, end, radius * chest.vessel_scale, radius * 0.84 * chest.vessel_scale, voxel_mm, rng
        )
        points.append(points_now)
        volumes.append(volumes_now)
        if generation == 6:
            break
        spread = rng.normal(0, 1, (2, len(end), 3))
        spread -= (spread * direction).sum(-1, keepdims=True) * direction
        spread /= np.linalg.norm(spread, axis=-1, keepdims=True)
        spread[1] = -spread[0]
        angle = rng.uniform([[[0.18]], [[0.4]]], [[[0.4]], [[0.75]]], (2, len(end), 1))
        direction = (np.cos(angle) * direction + np.sin(angle) * spread).reshape(-1, 3)
        start = np.tile(end, (2, 1))
        radius = np.concatenate([radius * 0.82, radius * 0.66])
        length = np.tile(length * 0.76, 2) * rng.uniform(0.75, 1.2, len(start))
        keep = radius > 0.32
        start, direction, radius, length = start[keep], direction[keep], radius[keep], length[keep]
    return VesselTree(np.concatenate(points).astype(np.float32), np.concatenate(volumes).astype(np.float32))


def _fill(
    start: np.ndarray,
    end: np.ndarray,
    radius: np.ndarray,
    radius_end: np.ndarray,
    voxel_mm: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Scatter points evenly through tapering tubes, about five per voxel and at least two per voxel of length."""
    length = np.linalg.norm(end - start, axis=1)
    volume = np.pi * ((radius + radius_end) / 2) ** 2 * length
    count = np.maximum(np.ceil(5 * volume / voxel_mm**3), np.ceil(2 * length / voxel_mm)).astype(int) + 1
    which = np.repeat(np.arange(len(start)), count)
    first = np.cumsum(count) - count
    t = (np.arange(len(which)) - first[which] + 0.5) / count[which]
    direction = (end - start) / length[:, None]
    helper = np.where(np.abs(direction[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]])
    u = np.cross(direction, helper)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(direction, u)
    # A sunflower pattern covers the cross-section evenly.
    r = np.sqrt((np.arange(len(which)) * 0.754877666) % 1) * ((radius + radius_end) / 2)[which]
    phi = np.arange(len(which)) * 2.39996323 + rng.uniform(0, 6.28)
    points = start[which] + (end - start)[which] * t[:, None]
    points += (r * np.cos(phi))[:, None] * u[which] + (r * np.sin(phi))[:, None] * v[which]
    return points, (volume / count)[which]
