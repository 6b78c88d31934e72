"""Baselines without learning: a random order, the pixels, and a classical descriptor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from ..data.studies import StudySet
from .embeddings import Embeddings, Progress
from .measures import F32

ORIENTATIONS = 9
CELLS = 8  # along the longer side of a picture
DENSITY_BINS = np.array([-1.0, -0.9, -0.7, -0.4, -0.1, 0.0, 0.05, 0.1, 0.3, 1.01], np.float32)  # HU / 1000
DENSITY_GRID = 4  # boxes along each axis of a volume


def pixels(data: StudySet, progress: Progress = lambda done: None) -> Embeddings:
    """The standardised pixels of each image: the cosine of two is the correlation of the images."""
    flat = data.images.reshape(len(data), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    progress(len(data))
    return Embeddings(image=_compact(_unit(flat)))


def descriptor(data: StudySet, progress: Progress = lambda done: None) -> Embeddings:
    """Histograms of oriented gradients (Dalal and Triggs 2005). For a volume: those of its mean projections along the
    three axes and of its coronal and axial maximum, with histograms of density in a grid of boxes."""
    rows = []
    for number, image in enumerate(data.images):
        picture = image[0].astype(np.float32)
        rows.append(_gradients(picture) if data.kind is ImageKind.CXR else _of_volume(picture))
        progress(number + 1)
    return Embeddings(image=_unit(np.stack(rows)))


def _compact(vectors: F32) -> F32:
    """At most n numbers for each of n vectors, with the same inner products."""
    if vectors.shape[0] >= vectors.shape[1]:
        return vectors
    values, axes = np.linalg.eigh((vectors @ vectors.T).astype(np.float64))
    return _unit((axes * np.sqrt(np.maximum(values, 0))).astype(np.float32))


def _of_volume(volume: F32) -> F32:
    views = [volume.mean(axis=axis) for axis in range(3)] + [volume.max(axis=axis) for axis in range(2)]
    gradients = np.concatenate([_gradients(view) for view in views]) / len(views) ** 0.5
    return np.concatenate([gradients, _densities(volume)])


def _gradients(picture: F32) -> F32:
    """One unit vector. Raises BadInput without scikit-image."""
    try:
        from skimage.feature import hog  # an extra, for this baseline alone
    except ModuleNotFoundError:
        raise BadInput("hog needs scikit-image: pip install -e '.[train]' in the clone") from None
    side = max(1, max(picture.shape) // CELLS)
    found = hog(picture, orientations=ORIENTATIONS, pixels_per_cell=(side, side), cells_per_block=(2, 2))
    row: F32 = _unit(np.asarray(found, np.float32)[None])[0]
    return row


def _densities(volume: F32) -> F32:
    """One unit vector: the square roots of the shares of each density in each box (Hellinger's kernel)."""
    shares = []
    for slab in np.array_split(volume, DENSITY_GRID, axis=0):
        for column in np.array_split(slab, DENSITY_GRID, axis=1):
            for box in np.array_split(column, DENSITY_GRID, axis=2):
                counts, _ = np.histogram(box, DENSITY_BINS)
                shares.append(np.sqrt(counts / max(1, box.size)))
    row: F32 = _unit(np.concatenate(shares).astype(np.float32)[None])[0]
    return row


def _unit(vectors: F32) -> F32:
    found: F32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return found


RANDOM = "random"  # scores its exact expectation
BASELINES: Mapping[str, Callable[[StudySet, Progress], Embeddings]] = {"pixels": pixels, "hog": descriptor}
