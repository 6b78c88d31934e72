"""A volume turned so that its axes are the patient's: head, back and left, by permuting and flipping only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radir_pacs.types import F32

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LpsVolume:
    """voxels, spacing_mm, affine: as of ``radir_pacs.types.Volume``. order: the acquired array axis that each of
    (z, y, x) was; flipped: whether the first acquired axis was turned round."""

    voxels: F32
    spacing_mm: tuple[float, float, float]
    affine: F64
    order: tuple[int, int, int]
    flipped: bool


def patient_axes(directions: F64, oblique_deg: float) -> list[int] | None:
    """The patient axis (0 = x, 1 = y, 2 = z) along which each array axis runs; None where one is oblique.

    directions: unit vectors in LPS, one row for each array axis.
    """
    axes = [int(axis) for axis in np.abs(directions).argmax(axis=1)]
    aligned = np.abs(directions).max(axis=1).min() >= math.cos(math.radians(oblique_deg))
    return axes if aligned and len(set(axes)) == 3 else None


def on_lps_axes(voxels: F32, steps: F64, origin: F64, axes: list[int]) -> LpsVolume:
    """Array axes permuted and flipped so that [z, y, x] point to head, back and left; the affine follows every step.

    steps: [3, 3], its columns the LPS mm per step along each array axis of ``voxels``. origin: LPS mm of the first
    voxel. axes: of ``patient_axes``.
    """
    steps, flipped = steps.copy(), False
    for array_axis, patient_axis in enumerate(axes):
        if steps[patient_axis, array_axis] < 0:
            origin = origin + steps[:, array_axis] * (voxels.shape[array_axis] - 1)
            steps[:, array_axis] *= -1
            voxels = np.flip(voxels, array_axis)
            flipped |= array_axis == 0
    z, y, x = (axes.index(patient_axis) for patient_axis in (2, 1, 0))
    steps = steps[:, [z, y, x]]
    affine = np.eye(4)
    affine[:3, :3] = steps[:, ::-1]
    affine[:3, 3] = origin
    lengths = np.linalg.norm(steps, axis=0)
    return LpsVolume(
        voxels=np.ascontiguousarray(voxels.transpose(z, y, x), np.float32),
        spacing_mm=(float(lengths[0]), float(lengths[1]), float(lengths[2])),
        affine=affine,
        order=(z, y, x),
        flipped=flipped,
    )
