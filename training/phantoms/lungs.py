"""Lungs, their lobes and the tree of vessels in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radir_pacs.types import F32

from .canvas import Canvas, Noise
from .patient import Chest

BLOOD_HU = 42.0


def paint_lungs(canvas: Canvas, chest: Chest, loose_hu: float, noise: Noise) -> None:
    """Hollow out the rib cage: loose tissue in the middle and under the diaphragm, lung on both sides."""
    axes = canvas.axes
    width, depth, centre = (values[:, None, None] for values in chest.cavity(axes.z))
    x, y, z = canvas.coordinates((slice(None), slice(None), slice(None)))
    n = np.float32(2.3)
    dy = y - centre
    level = ((np.abs(x) / width) ** n + (np.abs(dy) / depth) ** n) ** (1 / n)
    inside = (1 - level) * np.minimum(width, depth)
    texture = noise(axes.x, axes.y, axes.z)
    cavity = canvas.soften(inside)
    canvas.hu += cavity * (loose_hu + 12 * texture - canvas.hu)
    half = int(np.searchsorted(axes.x, 0))
    for side, columns in ((-1, slice(0, half)), (1, slice(half, None))):
        xs = x[:, :, columns]
        shape = np.minimum(
            inside[:, :, columns] - 1.5, z - chest.dome(axes.x[columns][None, :], axes.y[:, None], side)[None]
        )
        shape = np.minimum(shape, side * xs - _midline(chest, y, z, side))
        shape = np.minimum(shape, _apex(chest, xs, y, z, side))
        lung = canvas.soften(shape.astype(np.float32))
        density = chest.lung_hu + 0.35 * dy + 9 * texture[:, :, columns]
        view = canvas.hu[:, :, columns]
        view += lung * (density - view)
        canvas.lung[:, :, columns] = lung


def _midline(chest: Chest, y: F32, z: F32, side: int) -> F32:
    """How far the mediastinum reaches to one side: thin in front, wider at the great vessels and beside the spine."""
    s = chest.patient.scale
    middle = 17 * np.exp(-(((y - 12) / 34) ** 2)) * (0.35 + 0.65 / (1 + np.exp(-(z + 30) / 12)))
    upper = 6 / (1 + np.exp(-(z - 30) / 10))
    _, spine_y = chest.spine(np.ravel(z))
    spine = 20 * np.exp(-(((y - spine_y[:, None, None] + 2) / 19) ** 2))
    return np.asarray((8 + np.maximum(middle + upper, spine) - (2 if side < 0 else 0)) * s, np.float32)


def _apex(chest: Chest, x: F32, y: F32, z: F32, side: int) -> F32:
    """The dome of the lung above the great vessels, centred off the midline."""
    p = chest.patient
    base = 20.0 * p.scale
    height = np.maximum(z - base, 0) / (p.apex_mm - base)
    dx, dy = (side * x - 58 * p.scale) / (64 * p.scale), (y - 12) / (p.half_depth_mm + 6)
    distance = np.sqrt(dx**2 + dy**2 + height**2)
    dome = (1 - distance) * 62 * p.scale
    return np.where(z > base, dome, np.float32(1e3)).astype(np.float32)


def lobe_weight(chest: Chest, lobe: str, x: F32, y: F32, z: F32, soft_mm: float = 3.0) -> F32:
    """1 inside a lobe (or whole lung), 0 outside, in between over the fissures. Broadcasts to [z, y, x]."""
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
        position = (self.points - np.float32([axes.x[0], axes.y[0], axes.z[0]])) / np.float32(h)
        base = np.floor(position).astype(np.int64)
        part = (position - base).astype(np.float32)
        total = np.zeros(shape[0] * shape[1] * shape[2], np.float64)
        for dz in (0, 1):
            for dy in (0, 1):
                for dx in (0, 1):
                    at = base + (dx, dy, dz)
                    inside = ((at >= 0) & (at < (shape[2], shape[1], shape[0]))).all(axis=1)
                    weight = (
                        np.abs(1 - dx - part[:, 0])
                        * np.abs(1 - dy - part[:, 1])
                        * np.abs(1 - dz - part[:, 2])
                        * self.mm3
                    )
                    flat = (at[:, 2] * shape[1] + at[:, 1]) * shape[2] + at[:, 0]
                    total += np.bincount(flat[inside], weight[inside], minlength=len(total))
        fraction: F32 = np.minimum(total / h**3, 1).astype(np.float32).reshape(shape)
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
            # More blood flows to the bases of a person standing up.
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
    """Scatter points evenly through tapering tubes, about eight a voxel and never fewer than two a voxel of length."""
    length = np.linalg.norm(end - start, axis=1)
    volume = np.pi * ((radius + radius_end) / 2) ** 2 * length
    count = np.maximum(np.ceil(8 * volume / voxel_mm**3), np.ceil(2 * length / voxel_mm)).astype(int) + 1
    which = np.repeat(np.arange(len(start)), count)
    first = np.cumsum(count) - count
    t = (np.arange(len(which)) - first[which] + 0.5) / count[which]
    direction = (end - start) / length[:, None]
    helper = np.where(np.abs(direction[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]])
    u = np.cross(direction, helper)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(direction, u)
    # A sunflower pattern covers the cross-section without clumps.
    r = np.sqrt((np.arange(len(which)) * 0.754877666) % 1) * ((radius + radius_end) / 2)[which]
    phi = np.arange(len(which)) * 2.39996323 + rng.uniform(0, 6.28)
    points = start[which] + (end - start)[which] * t[:, None]
    points += (r * np.cos(phi))[:, None] * u[which] + (r * np.sin(phi))[:, None] * v[which]
    return points, (volume / count)[which]
