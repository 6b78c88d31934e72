"""A program from elsewhere that answers features of places, and what our tests make of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radir_pacs.encode import Preprocessing
from radir_pacs.encode.config import NetworkConfig, ProgramConfig
from radir_pacs.encode.import_program import Program, ProgramRequest
from radir_pacs.encode.onnx_regions import Features, by_place
from radir_pacs.encode.program import ProgramStem
from radir_pacs.types import ImageKind
from radir_training.data.program_features import with_features
from radir_training.learning.recipe import OURS
from radir_training.learning.train import train
from tests.training.toy import TOY, TOY_CT, toy_set

SIDE, STRIDE, CHANNELS = 32, 4, 6
GRID = (SIDE // STRIDE, SIDE // STRIDE)


class Dense(nn.Module):
    """Random weights in the layout of a known model: ``prefix`` 1 as RAD-DINO's class token, 5 with four registers."""

    def __init__(self, layout: str, prefix: int = 0, axes: int = 2, view: bool = False) -> None:
        super().__init__()
        self.layout, self.view = layout, view
        self.stem = (nn.Conv2d if axes == 2 else nn.Conv3d)(1, CHANNELS, STRIDE, stride=STRIDE)
        self.prefix = nn.Parameter(torch.randn(1, prefix, CHANNELS) + 50)

    def forward(self, image: Tensor, view: Tensor | None = None) -> Tensor:
        found: Tensor = self.stem(image).tanh() * 3 + 7
        if view is not None:
            found = found + view.float()[:, None, None, None]
        if self.layout == "map":
            return found
        return torch.cat([self.prefix, found.flatten(2).transpose(1, 2)], dim=1)


def exported(path: Path, layout: str = "map", prefix: int = 0, axes: int = 2, view: bool = False) -> Dense:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = Dense(layout, prefix, axes, view).eval()
    shape = (SIDE, SIDE) if axes == 2 else TOY_CT.stems[ImageKind.CT].shape
    given = (torch.zeros(1, 1, *shape), torch.zeros(1, dtype=torch.int64))[: 1 + view]
    torch.onnx.export(network, given, path, dynamo=False, opset_version=18)
    return network


def prepared(shape: tuple[int, ...] = (SIDE, SIDE)) -> Preprocessing:
    return Preprocessing(kind=ImageKind.CXR, shape=shape, clip=(0.5, 99.5))


def request(**changes: Any) -> ProgramRequest:
    values: dict[str, Any] = {"preprocessing": prepared(), "features": Features.MAP}
    return ProgramRequest(**{**values, **changes})


def program_of(path: Path, features: Features = Features.MAP, prefix: int = 0) -> Program:
    """As ``import_program``, without its child, which takes seconds."""
    content, grid = by_place(path.read_bytes(), features, prefix=prefix, shape=(SIDE, SIDE))
    sha256 = hashlib.sha256(content).hexdigest()
    config = ProgramConfig(shape=(SIDE, SIDE), clip=(0.5, 99.5), grid=grid, channels=CHANNELS, sha256=sha256)
    return Program(config=config, content=content, source="onnx", seconds_per_image=0.01)


def reading(program: Program, config: NetworkConfig = TOY, kind: ImageKind = ImageKind.CXR) -> NetworkConfig:
    return replace(config, stems={kind: program.config}, blocks=0)


def bundle_of_a_map(folder: Path, *, studies: int, epochs: int) -> Path:
    """A bundle trained for a moment on features of a map."""
    exported(folder / "m.onnx")
    program = program_of(folder / "m.onnx")
    data = with_features(toy_set(studies, seed=1), ProgramStem(program.config, TOY.width, program.content), folder)
    recipe = replace(OURS, epochs=epochs, batch=16, augment=False)
    train(reading(program), data, recipe, program=program.content).save(folder / "model")
    return folder / "model"
