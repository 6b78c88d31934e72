"""A model from elsewhere that answers features of places becomes a program that a network of ours reads (``program``).

The file is opened, turned into ONNX and tried in the same confined child as one that is imported whole.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from radir_pacs.errors import BundleRefused

from .config import ProgramConfig
from .import_model import OPEN_S, TRIAL_RUNS, as_onnx, asked
from .network import view_index
from .onnx_check import check_onnx
from .onnx_regions import Features
from .preprocess import Preprocessing


@dataclass(frozen=True, kw_only=True)
class ProgramRequest:
    """What the file itself does not say; as in ``ImportRequest``."""

    preprocessing: Preprocessing
    features: Features
    prefix_tokens: int = 0
    slowest_s: float = 5.0
    threads: int = 0
    trust_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Program:
    """content: the ONNX file, which answers float32 [1, places, channels]. source: the format that it came in."""

    config: ProgramConfig
    content: bytes
    source: str
    seconds_per_image: float


def import_program(file: Path, request: ProgramRequest) -> Program:
    """Raises BundleRefused with the reason and what to do, OSError."""
    if request.features is Features.VECTORS:
        raise BundleRefused("a decoder is trained on features of places: export the map or the tokens of the model")
    if request.prefix_tokens < 0:
        raise BundleRefused("--prefix-tokens is a number of tokens")
    how, trust = request.preprocessing, request.trust_code
    task = {
        "shape": how.shape,
        "view": view_index(how.kind, None),
        "features": request.features.value,
        "prefix": request.prefix_tokens,
        "slowest_s": request.slowest_s,
        "threads": request.threads or torch.get_num_threads(),
    }
    source, content = as_onnx(file, task, trust)
    deadline_s = OPEN_S + TRIAL_RUNS * request.slowest_s
    try:
        said, content = asked(file.name, content, {**task, "do": "place"}, deadline_s, trust)
        check_onnx(content)
        grid = tuple(int(n) for n in said["grid"])
        tried = {**task, "do": "try features", "places": math.prod(grid)}
        said, _ = asked(file.name, content, tried, deadline_s, trust)
        config = ProgramConfig(
            shape=how.shape,
            spacing_mm=how.spacing_mm,
            clip=how.clip,
            repeats=how.repeats,
            grid=grid,
            channels=int(said["channels"]),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        seconds = float(said["seconds_per_image"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(f"{file.name}: {error}") from None
    return Program(config=config, content=content, source=source, seconds_per_image=seconds)
