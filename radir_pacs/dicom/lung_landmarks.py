"""Where the lungs lie along a CT series, from which follows on which slice a region is.

A series may begin and end anywhere between jaw and pelvis, so a slice's number says little. The lungs are visible in
every chest CT, whatever its noise, kernel and contrast medium. Disease often spares one side, so each side is measured
separately.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from radir_pacs.types import F32, SliceStack, Volume

F64 = npt.NDArray[np.float64]

_LUNG_BELOW_HU = -500.0
_OUTER_AIR_HU = -940.0  # mean of the air around the body; a lung that the field of view cuts off is denser
_GAS_HU = -960.0  # mean of bowel and stomach gas; even an emphysematous lung is denser
_CELL_MM = 4.0  # slices are averaged to cells of about this size first
_LEAST_MM2 = 1500.0  # largest section of a lung; anything smaller does not count as one
_END = 0.06  # share of the largest section at which the lung counts as ended
_DOME = 0.7  # share of the largest section at the dome of the diaphragm
_SMOOTH_MM = 10.0
_SIDES_AGREE_MM = 30.0
_HEIGHT_TO_WIDTH = 0.8  # of both lungs in deep inspiration, from domes to apices
_LEAST_OF_HEIGHT = 0.75  # lungs shorter than this share of the height expected from their width are diseased


_BODY_SHARES = (0.25, 0.9)  # where domes and apices are assumed in a series without visible lungs


def slice_stack(volume: Volume) -> SliceStack | None:
    """The slices of a CT and its lung landmarks; None for a radiograph or a series that was not acquired axially."""
    if not volume.slice_images:
        return None
    last = len(volume.slice_images) - 1
    dome, apex = lung_landmarks(volume.voxels, volume.spacing_mm) or (last * share for share in _BODY_SHARES)
    return SliceStack(images=volume.slice_images, dome=dome, apex=max(apex, dome + 1), step_mm=volume.spacing_mm[0])


def lung_landmarks(voxels: F32, spacing_mm: tuple[float, float, float]) -> tuple[float, float] | None:
    """Slice indices of the domes of the diaphragm and of the apices of the lungs, ascending.

    voxels: HU [z, y, x], feet to head. An index may lie outside of a series that ends within the lungs. None where too
    little lung shows.
    """
    areas, half_width_mm = _lungs(voxels, spacing_mm)
    step_mm, last = spacing_mm[0], float(len(voxels) - 1)
    sides = [_side(area, step_mm) for area in areas if area.max() >= _LEAST_MM2]
    if not sides:
        return None
    domes, tops = [dome for dome, _ in sides], [top for _, top in sides]
    known = [0.0 if dome is None else dome for dome in domes]
    agree = (max(known) - min(known)) * step_mm <= _SIDES_AGREE_MM
    dome = sum(known) / len(known) if agree else min(known)
    cut_below, cut_above = domes[known.index(min(known))] is None, None in tops
    top = last if cut_above else max(top for top in tops if top is not None)
    expected = 2 * half_width_mm * _HEIGHT_TO_WIDTH / step_mm
    missing = max(expected - (top - dome), 0.0)
    if cut_above and cut_below:
        return dome - missing / 2, top + missing / 2
    if cut_above:
        return dome, top + missing
    if cut_below or top - dome < _LEAST_OF_HEIGHT * expected:
        return dome - missing, top
    return dome, top


def _side(area: F64, step_mm: float) -> tuple[float | None, float | None]:
    """Dome and apex of one lung, from its section on each slice; None for one beyond the end of the series."""
    smooth = ndimage.uniform_filter1d(area, max(1, round(_SMOOTH_MM / step_mm)), mode="nearest")
    peak, most = int(smooth.argmax()), float(smooth.max())
    down, up = _falls_below(smooth[peak::-1], _DOME * most), _falls_below(smooth[peak:], _END * most)
    return None if down is None else peak - down, None if up is None else peak + up


def _falls_below(profile: F64, level: float) -> float | None:
    """The interpolated index at which a profile first falls below a level; None where it never does."""
    below = np.flatnonzero(profile < level)
    if len(below) == 0:
        return None
    after = int(below[0])
    return after - (level - float(profile[after])) / max(float(profile[after - 1] - profile[after]), 1e-9)


def _lungs(voxels: F32, spacing_mm: tuple[float, float, float]) -> tuple[tuple[F64, F64], float]:
    """The section in mm² of the right and of the left lung on each slice, and how far the lungs reach sideways."""
    _, row_mm, column_mm = spacing_mm
    rows, columns = (max(1, round(_CELL_MM / mm)) for mm in (row_mm, column_mm))
    lungs, body = [], []
    for plane in voxels:
        cells = _averaged(plane, rows, columns)
        lungs.append(_lung(cells).sum(axis=0))
        body.append((cells > _LUNG_BELOW_HU).sum(axis=0))
    profile = np.stack(lungs).astype(np.float64)  # [slice, column]
    tissue = np.stack(body).sum(axis=0) + profile.sum(axis=0)
    at = np.arange(len(tissue))
    middle = float((at * tissue).sum() / max(float(tissue.sum()), 1.0))
    cell_mm2 = rows * row_mm * columns * column_mm
    right, left = (profile[:, mask].sum(axis=1) * cell_mm2 for mask in (at < middle, at >= middle))
    across = np.flatnonzero(profile.sum(axis=0) > 0.1 * profile.sum(axis=0).max())
    reach = float(np.abs(across - middle).max()) if len(across) else 0.0
    return (right, left), reach * columns * column_mm


def _averaged(plane: F32, rows: int, columns: int) -> F32:
    height, width = (plane.shape[0] // rows) * rows, (plane.shape[1] // columns) * columns
    clipped = np.maximum(plane[:height, :width], -1000)
    lines = clipped.reshape(height // rows, rows, width).sum(
        axis=1
    )  # one axis at a time: numpy is slow at both at once
    averaged: F32 = lines.reshape(len(lines), width // columns, columns).sum(axis=2) / (rows * columns)
    return averaged.astype(np.float32, copy=False)


def _lung(plane: F32) -> npt.NDArray[np.bool_]:
    """Which cells of a slice are lung: air that is neither outside the body nor in the gut."""
    labels, count = ndimage.label(plane < _LUNG_BELOW_HU)
    if count == 0:
        return np.zeros(plane.shape, np.bool_)
    numbers = np.arange(1, count + 1)
    mean_hu = ndimage.mean(plane, labels, numbers)
    at_edge = np.isin(numbers, np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    is_lung = np.concatenate([[False], mean_hu > np.where(at_edge, _OUTER_AIR_HU, _GAS_HU)])
    lung: npt.NDArray[np.bool_] = is_lung[labels]
    return lung
