"""From a Volume to the network's input: deterministic, numpy only, the same in training and in service.

Resampling is separable area averaging: an output voxel is the mean of the input it covers, so that a fine image does
not alias, and what lies outside the image is filled with the padding value. Each output row covers few input rows, so
the matrices are sparse: a dense product takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from radir_pacs.errors import Quarantined
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import F32, ImageKind, Volume

from .config import NetworkConfig, ProgramConfig

CT_SPACING_MM = {"tiny": (6.0, 6.0, 6.0), "small": (3.0, 3.0, 3.0), "base": (1.5, 0.75, 0.75)}
LUNG_HU = (-950.0, -600.0)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """shape: of the input, (rows, columns) or (z, y, x). spacing_mm: of the CT grid; unused for radiographs, which are
    letterboxed. clip: HU limits mapped to [-1, 1] for CT; percentiles a radiograph is clipped to before it is
    standardised. repeats: where the grid of a radiograph is finer than the image, its pixels are repeated instead of
    interpolated, so that a coarser grid can be averaged from it (``appearance.reduced``). Raises ValueError when these
    make no grid.
    """

    kind: ImageKind
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] = ()
    clip: tuple[float, float]
    repeats: bool = False

    def __post_init__(self) -> None:
        axes = 2 if self.kind is ImageKind.CXR else 3
        if len(self.shape) != axes or not all(1 <= n <= 4096 for n in self.shape):
            raise ValueError(f"{self.kind} is resampled to a shape of {axes} axes")
        if len(self.spacing_mm) != (0 if axes == 2 else 3) or not all(0 < s < 100 for s in self.spacing_mm):
            raise ValueError("a CT grid has three spacings, a radiograph's none")
        if not self.clip[0] < self.clip[1]:
            raise ValueError("clip is a lower and an upper limit")

    @classmethod
    def of(cls, config: NetworkConfig, kind: ImageKind) -> Preprocessing:
        """What the named configuration expects of an image."""
        shape, stem = config.input_shape(kind), config.stems[kind]
        if isinstance(stem, ProgramConfig):
            return cls(kind=kind, shape=shape, spacing_mm=stem.spacing_mm, clip=stem.clip, repeats=stem.repeats)
        if kind is ImageKind.CXR:
            return cls(kind=kind, shape=shape, clip=(0.5, 99.5), repeats=config.appearance is not None)
        return cls(kind=kind, shape=shape, spacing_mm=CT_SPACING_MM[config.name], clip=(-1000.0, 1000.0))

    def to_json(self) -> dict[str, Any]:
        written = asdict(self)
        if not self.repeats:
            del written["repeats"]  # as releases that did not know it wrote it
        return written

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        low, high = value["clip"]
        return cls(
            kind=ImageKind(value["kind"]),
            shape=tuple(int(n) for n in value["shape"]),
            spacing_mm=tuple(float(s) for s in value["spacing_mm"]),
            clip=(float(low), float(high)),
            repeats=bool(value.get("repeats", False)),
        )


def preprocess(volume: Volume, how: Preprocessing) -> F32:
    """The network's input [1, *how.shape]. Raises Quarantined when the image shows nothing."""
    return _radiograph(volume, how) if volume.kind is ImageKind.CXR else _ct(volume, how)


def area_weights(
    size_in: int, step_in: float, size_out: int, step_out: float, shift: float = 0.0, *, repeats: bool = False
) -> F32:
    """Matrix [size_out, size_in] that averages one axis; both grids share a centre, moved by ``shift`` along the input.

    Steps and shift have one unit. A row sums to the share of its output cell that the input covers. Where the output
    is finer than the input, a cell reaches over one input step, which interpolates linearly, or, where it ``repeats``,
    over itself.
    """
    reach = (step_out if repeats else max(step_out, step_in)) / 2
    centres = (np.arange(size_out) - (size_out - 1) / 2) * step_out + shift
    edges = (np.arange(size_in + 1) - size_in / 2) * step_in
    low = np.maximum(edges[None, :-1], centres[:, None] - reach)
    high = np.minimum(edges[None, 1:], centres[:, None] + reach)
    weights: F32 = (np.clip(high - low, 0, None) / (2 * reach)).astype(np.float32)
    return weights


@lru_cache(maxsize=32)
def _sparse_weights(
    size_in: int, step_in: float, size_out: int, step_out: float, repeats: bool = False
) -> sparse.csr_array:
    """``area_weights``; the images of a device have few sizes, so the last matrices are kept."""
    return sparse.csr_array(area_weights(size_in, step_in, size_out, step_out, repeats=repeats))


def _covered(rows: sparse.csr_array, columns: sparse.csr_array) -> F32:
    """The share [rows, columns] of each output cell that the input covers."""
    covered: F32 = np.outer(rows.sum(1), columns.sum(1))
    return covered


def _resampled(rows: sparse.csr_array, image: F32, columns: sparse.csr_array) -> F32:
    """rows @ image @ columns.T, the image a dense array."""
    small: F32 = (columns @ (rows @ image).T).T
    return small


def _radiograph(volume: Volume, how: Preprocessing) -> F32:
    image = volume.voxels[0]
    pixel_mm = volume.spacing_mm[1:]
    extent_mm = [n * mm for n, mm in zip(image.shape, pixel_mm, strict=True)]
    step_mm = max(extent / n for extent, n in zip(extent_mm, how.shape, strict=True))
    rows, columns = (
        _sparse_weights(size, mm, n, step_mm, how.repeats)
        for size, mm, n in zip(image.shape, pixel_mm, how.shape, strict=True)
    )
    covered = _covered(rows, columns)
    small = _resampled(rows, image, columns) / np.maximum(covered, 1e-6)
    content = covered > 0.5
    low, high = np.percentile(small[content], how.clip)
    small = np.clip(small, low, high)
    mean, deviation = small[content].mean(), small[content].std()
    if deviation < 1e-6:
        raise Quarantined("the radiograph is one flat tone", reason_code=ReasonCode.BLANK_IMAGE)
    standard: F32 = np.where(content, (small - mean) / deviation, 0.0).astype(np.float32)
    return standard[None]


def _ct(volume: Volume, how: Preprocessing) -> F32:
    """Averaged slice by slice, so that no copy of the whole series is made."""
    low, high = how.clip
    if min(float(volume.voxels.max()), high) - max(float(volume.voxels.min()), low) < 1:
        raise Quarantined("the CT is one flat tone", reason_code=ReasonCode.BLANK_IMAGE)
    _, rows_mm, columns_mm = volume.spacing_mm
    _, y, x = volume.voxels.shape
    rows = _sparse_weights(y, rows_mm, how.shape[1], how.spacing_mm[1])
    columns = _sparse_weights(x, columns_mm, how.shape[2], how.spacing_mm[2])
    plane_low = low * (1 - _covered(rows, columns))
    planes = np.empty((len(volume.voxels), *how.shape[1:]), np.float32)
    for plane, voxels in zip(planes, volume.voxels, strict=True):
        np.add(_resampled(rows, np.clip(voxels, low, high), columns), plane_low, out=plane)
    slice_mm = volume.spacing_mm[0]
    along = area_weights(len(planes), slice_mm, how.shape[0], how.spacing_mm[0], _lung_centre_mm(planes, slice_mm))
    grid = np.tensordot(along, planes, axes=(1, 0)) + low * (1 - along.sum(1))[:, None, None]
    scaled: F32 = ((grid - low) * (2 / (high - low)) - 1).astype(np.float32)
    return np.ascontiguousarray(scaled[None])


def _lung_centre_mm(planes: F32, slice_mm: float) -> float:
    """Height of the middle of the aerated lung above the middle slice; 0 where hardly any lung shows.

    A series may end anywhere between jaw and pelvis; the lungs say where its chest is.
    """
    lung = ((planes > LUNG_HU[0]) & (planes < LUNG_HU[1])).mean(axis=(1, 2))
    lung = np.where(lung > 0.3 * lung.max(), lung, 0) if lung.max() > 0.02 else np.zeros_like(lung)
    if not lung.any():
        return 0.0
    heights = (np.arange(len(planes)) - (len(planes) - 1) / 2) * slice_mm
    return float((heights * lung).sum() / lung.sum())
