"""Features that a program from elsewhere answers for images, computed once and kept.

One file an image, named by the program and by what it was shown, written whole or not at all: what was interrupted goes
on where it stopped, and images that are added later cost only themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from radir_pacs import durable
from radir_pacs.encode.config import ProgramConfig
from radir_pacs.encode.program import ProgramStem
from radir_pacs.errors import BadInput
from radir_pacs.types import F16, F32

from .studies import StudySet

FORMAT = 1  # raise it when the same program and image give other features
_SAMPLED = 4096  # images by which features are measured, at most


def feature_bytes(config: ProgramConfig) -> int:
    """What the features of an image take."""
    return 2 * config.channels * int(np.prod(config.grid))


def missing_features(data: StudySet, config: ProgramConfig, cache: Path) -> int:
    """Of how many images no features are kept yet."""
    folder, least = _folder(cache, config), feature_bytes(config)
    paths = {folder / _name(image, int(view)) for image, view in zip(data.images, data.views, strict=True)}
    return sum(not path.is_file() or path.stat().st_size < least for path in paths)


def with_features(
    data: StudySet, stem: ProgramStem, cache: Path, progress: Callable[[int], None] = lambda done: None
) -> StudySet:
    """``data`` with the program's features [n, places, channels] in place of its images; ``progress`` gets the number
    of images that are ready.

    Raises BadInput where an image has no features that half precision can hold, OSError.
    """
    folder = _folder(cache, stem.config)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what can be told of patients' images
    found = np.empty((len(data), stem.places, stem.config.channels), np.float16)
    for row, (image, view) in enumerate(zip(data.images, data.views, strict=True)):
        path = folder / _name(image, int(view))
        kept = _kept(path, found.shape[1:])
        found[row] = _made(stem, image.astype(np.float32), int(view), path) if kept is None else kept
        progress(row + 1)
    return replace(data, images=found, features=True)


def _folder(cache: Path, config: ProgramConfig) -> Path:
    return cache / f"features-{config.sha256[:16]}"


def _name(image: np.ndarray[Any, Any], view: int) -> str:
    digest = hashlib.sha256(f"{FORMAT} {view} {image.shape} ".encode() + np.ascontiguousarray(image).tobytes())
    return f"{digest.hexdigest()[:32]}.npy"


def _kept(path: Path, shape: tuple[int, ...]) -> F16 | None:
    """None where there is none, or another thing than was written."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.float16 and found.shape == shape and np.isfinite(found).all() else None


def _made(stem: ProgramStem, image: F32, view: int, path: Path) -> F16:
    try:
        with np.errstate(over="ignore"):
            half: F16 = stem.features(image, view).astype(np.float16)
    except ValueError as error:
        raise BadInput(str(error)) from None
    if not np.isfinite(half).all():
        raise BadInput("the program answers no finite number in half precision for an image: normalise its features")
    with durable.replacing(path, mode=0o600) as partial, partial.open("wb") as file:
        np.save(file, half)
    return half


def spread(data: StudySet) -> tuple[F32, F32]:
    """Mean and standard deviation [channels] of the features, over places and a part of the images, always the same."""
    rows = np.linspace(0, len(data) - 1, min(len(data), _SAMPLED)).astype(np.int64)
    channels, places = data.images.shape[2], data.images.shape[1]
    total, square = np.zeros(channels), np.zeros(channels)
    centre = data.images[rows[0]].astype(np.float64).mean(0)  # a spread is a difference of nearly equal numbers
    for row in rows:
        apart = data.images[row].astype(np.float64) - centre
        total += apart.sum(0)
        square += np.square(apart).sum(0)
    count = places * len(rows)
    off = total / count
    mean, deviation = centre + off, np.sqrt(np.maximum(square / count - np.square(off), 0))
    return mean.astype(np.float32), deviation.astype(np.float32)
