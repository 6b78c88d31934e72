"""Trial of a model from elsewhere on made-up images before it may serve: shape, numbers, repetition and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from radir_pacs.errors import BundleRefused

from .external_config import LEAST_LENGTH, ExternalConfig
from .golden import golden_image
from .onnx_file import OnnxFile

MOST_RESTLESS = 1e-4  # between two answers to one image, as unit vectors: threads may add in another order
LEAST_APART = 1e-5  # between the answers to two images
TIMED_RUNS = 3
MOST_FEATURE = 3e4  # they are kept in half precision, which ends at 65,504


def measure(content: bytes, task: Mapping[str, Any]) -> dict[str, Any]:
    """The length of its vectors and the seconds per image. ``task``: name, shape, view, regions, slowest_s, threads.

    Raises BundleRefused with what is wrong and what to do, ValueError when it cannot be run.
    """
    shape, rows, view = tuple(task["shape"]), len(task["regions"]), int(task["view"])
    ExternalConfig(
        name=task["name"], shape=shape, embedding_dim=2
    )  # raises for what is not served; its length is not known
    file = _opened(content, task)
    images = _images(shape)
    outs = [file.run(image, view) for image in images]
    dim = _dim_of(outs[0], rows)
    ExternalConfig(name=task["name"], shape=shape, embedding_dim=dim)
    for out in outs:
        if out.shape != outs[0].shape:
            raise BundleRefused(f"the model answers {list(out.shape)} after {list(outs[0].shape)}: fix its output")
        if not np.isfinite(out).all():
            raise BundleRefused("the model answers NaN or infinity to an ordinary image: look at its normalisation")
        if (np.linalg.norm(out, axis=-1) < LEAST_LENGTH).any():
            raise BundleRefused("the model answers a vector of zeros, which has no direction: look at its last layer")
    again = file.run(images[0], view)
    if float(np.abs(_unit(again) - _unit(outs[0])).max()) > MOST_RESTLESS:
        raise BundleRefused("the model answers one image twice differently: export it in evaluation mode")
    if max(float(np.abs(_unit(out) - _unit(outs[0])).max()) for out in outs[1:]) < LEAST_APART:
        raise BundleRefused("the model answers every image alike: the export does not use its input")
    return {"dim": dim, "seconds_per_image": _pace(file.run, images, view, task["slowest_s"])}


def measure_features(content: bytes, task: Mapping[str, Any]) -> dict[str, Any]:
    """As ``measure``, of a file that answers features [1, places, channels]; ``task`` has ``places`` in place of
    regions."""
    shape, view = tuple(task["shape"]), int(task["view"])
    file = _opened(content, task)
    images = _images(shape)
    outs = [file.run(image, view) for image in images]
    for out in outs:
        if out.shape != outs[0].shape or out.ndim != 3 or out.shape[:2] != (1, int(task["places"])):
            raise BundleRefused(f"the model answers {list(out.shape)} after {list(outs[0].shape)}: fix its output")
        if not np.isfinite(out).all():
            raise BundleRefused("the model answers NaN or infinity to an ordinary image: look at its normalisation")
        if float(np.abs(out).max()) > MOST_FEATURE:
            raise BundleRefused(f"the model answers features above {MOST_FEATURE:g}: normalise them in its graph")
    largest = max(max(float(np.abs(out).max()) for out in outs), 1e-12)
    if float(np.abs(file.run(images[0], view) - outs[0]).max()) > MOST_RESTLESS * largest:
        raise BundleRefused("the model answers one image twice differently: export it in evaluation mode")
    if max(float(np.abs(out - outs[0]).max()) for out in outs[1:]) < LEAST_APART * largest:
        raise BundleRefused("the model answers every image alike: the export does not use its input")
    seconds = _pace(file.run, images, view, task["slowest_s"])
    return {"channels": int(outs[0].shape[2]), "seconds_per_image": seconds}


def _opened(content: bytes, task: Mapping[str, Any]) -> OnnxFile:
    file = OnnxFile(content, tuple(task["shape"]))
    file.use_threads(max(1, int(task["threads"])))
    return file


def _pace(run: Callable[[Any, int], Any], images: list[Any], view: int, slowest_s: float) -> float:
    """Seconds that an image takes. Raises BundleRefused for more than ``slowest_s``."""
    seconds = min(_seconds(run, image, view) for image in images[:TIMED_RUNS])
    if seconds > slowest_s:
        raise BundleRefused(
            f"the model takes {seconds:.2f} s an image, more than {slowest_s:g} s: export a smaller one, or "
            "allow more with --slowest-s"
        )
    return round(seconds, 6)


def _images(shape: tuple[int, ...]) -> list[Any]:
    golden = golden_image(shape)[None]
    noise = np.random.default_rng(0).standard_normal((2, 1, 1, *shape)).astype(np.float32)
    return [golden, -golden, noise[0], np.clip(noise[1] * 3, -10, 10)]


def _dim_of(out: np.ndarray[Any, Any], rows: int) -> int:
    if out.ndim == 3 and out.shape[:2] == (1, rows):
        return int(out.shape[2])
    if out.ndim == 2 and out.shape[0] == 1 and rows == 1:
        return int(out.shape[1])
    wanted = f"[1, {rows}, dim]" + (" or [1, dim]" if rows == 1 else "")
    raise BundleRefused(
        f"the model answers {list(out.shape)}, not {wanted}: give --regions in the order of its output, or none for "
        "one vector of the whole chest"
    )


def _unit(out: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    unit: np.ndarray[Any, Any] = out / np.linalg.norm(out, axis=-1, keepdims=True)
    return unit


def _seconds(run: Callable[[Any, int], Any], image: Any, view: int) -> float:
    start = time.perf_counter()
    run(image, view)
    return time.perf_counter() - start
