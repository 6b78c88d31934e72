"""The three pictures of a chest: frontal and lateral radiograph and a CT volume, all from the same painted voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from radir_pacs.types import F32

from .canvas import Axes, Size
from .patient import Chest
from .volume import axes_of, slabs
from .xray import attenuation, expose, present

CT_NOISE_HU = 14.0


@dataclass(frozen=True, kw_only=True)
class Images:
    """frontal, lateral: float32 [1, row, column] in [0, 1], bright is dense; patient's right at the left of the
    frontal view, the front at the left of the lateral one. ct: float32 [z, y, x] HU, feet to head, front to back,
    right to left, or empty. Spacings (z, y, x) in mm; ``ct_origin_mm`` is the (x, y, z) of the first voxel's centre.
    """

    frontal: F32
    lateral: F32
    radiograph_spacing_mm: tuple[float, float, float]
    ct: F32
    ct_spacing_mm: tuple[float, float, float]
    ct_origin_mm: tuple[float, float, float]


def take_images(
    chest: Chest, size: Size, rng: np.random.Generator, *, radiographs: bool = True, ct: bool = True
) -> Images:
    """Paint the chest once and image it. Images that are not wanted are empty."""
    axes = axes_of(chest, size)
    n, h = size.pixels, size.voxel_mm
    margin = (n - len(axes.y)) // 2
    front_path, side_path = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    trunk = _without_arms(chest, axes)
    low, high = _scan_range(chest, axes.z, size.slice_voxels)
    scan = np.full(((high - low) // size.slice_voxels if ct else 0, n, n), -1000, np.float32)
    rest = np.zeros((0, len(axes.y), len(axes.x)), np.float32)
    done = 0
    for start, canvas in slabs(chest, size):
        stop = start + canvas.hu.shape[0]
        if radiographs:
            mu = attenuation(canvas.hu)
            front_path[start:stop] = mu.sum(axis=1) * np.float32(h)
            # The arms are raised for the lateral view.
            raised = np.einsum("zyx,zx->zy", mu, trunk[start:stop]) * np.float32(h)
            side_path[start:stop, margin : margin + len(axes.y)] = raised
        if ct:
            part = canvas.hu[max(low - start, 0) : max(high - start, 0)]
            rest = np.concatenate([rest, part]) if len(rest) else part
            whole = len(rest) // size.slice_voxels
            thick = rest[: whole * size.slice_voxels].reshape(whole, size.slice_voxels, *rest.shape[1:]).mean(axis=1)
            scan[done : done + whole, margin : margin + len(axes.y)] = thick
            done, rest = done + whole, rest[whole * size.slice_voxels :].copy()
    if ct:
        _add_ct_noise(scan, rng)
    elif radiographs:  # their noise does not depend on which other images are taken
        for _ in range((high - low) // size.slice_voxels):
            rng.standard_normal((n, n), dtype=np.float32)
    empty = np.zeros((1, 0, 0), np.float32)
    thickness = round(h * size.slice_voxels, 4)
    return Images(
        frontal=_radiograph(front_path, h, rng) if radiographs else empty,
        lateral=_radiograph(side_path * np.float32(0.82), h, rng) if radiographs else empty,
        radiograph_spacing_mm=(1.0, h, h),
        ct=scan,
        ct_spacing_mm=(thickness, h, h),
        ct_origin_mm=(float(axes.x[0]), float(axes.y[0]) - margin * h, float(axes.z[low]) + (thickness - h) / 2),
    )


def _without_arms(chest: Chest, axes: Axes) -> F32:
    """1 where [z, x] belongs to the trunk, 0 at the shoulders: arms raised for a lateral view take the shoulders with
    them."""
    half_width = chest.patient.half_width_mm
    limit = np.interp(axes.z, [0, 55, chest.patient.apex_mm], [half_width + 20, half_width - 14, 62])
    trunk: F32 = (np.abs(axes.x)[None, :] < limit[:, None]).astype(np.float32)
    return trunk


def _radiograph(path: F32, pixel_mm: float, rng: np.random.Generator) -> F32:
    """Rows from head to feet."""
    picture: F32 = np.ascontiguousarray(present(expose(path[::-1], pixel_mm, rng), pixel_mm)[None])
    return picture


def _scan_range(chest: Chest, z: F32, step: int) -> tuple[int, int]:
    """Planes from under the lungs to above them, a whole number of slices; the same on every day of a patient."""
    low = int(np.searchsorted(z, chest.patient.right_dome_mm - chest.patient.dome_step_mm - 100))
    high = int(np.searchsorted(z, chest.patient.apex_mm + 22))
    return low, low + (high - low) // step * step


def _add_ct_noise(scan: F32, rng: np.random.Generator) -> None:
    """Quantum noise with the grain of a standard kernel, one slice at a time to keep memory low."""
    for plane in scan:
        grain = rng.standard_normal(plane.shape, dtype=np.float32)
        grain = uniform_filter1d(uniform_filter1d(grain, 2, axis=0), 2, axis=1)
        plane += grain * np.float32(2 * CT_NOISE_HU)
    np.clip(scan, -1024, 3071, out=scan)
