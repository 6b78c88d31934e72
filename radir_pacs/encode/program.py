"""A program from elsewhere in place of our stem: its features of places become the tokens that our decoder reads.

Nothing of the program is trained or changed. Ours are a linear map to the network's width and the positions, so that a
region's name can look for its place, as with tokens of our own (docs/adr/0051).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor, nn

from radir_pacs.errors import BundleRefused
from radir_pacs.types import F32

from .config import ProgramConfig
from .folder import StoredFile
from .onnx_file import OnnxFile
from .positions import grid_coordinates, sine_positions

LEAST_SPREAD = 1e-4  # of a feature over places and images: one that hardly varies says nothing


class ProgramStem(nn.Module):
    """Images [batch, 1, *shape], or features [batch, places, channels] of them, to tokens [batch, places, width].

    The file answers float32 [1, places, channels], row by row from the patient's head and right side (``by_place``).
    ``mean`` and ``scale`` [channels] are those of the features that it was trained on.
    """

    mean: Tensor
    scale: Tensor
    positions: Tensor
    plane_positions: Tensor

    def __init__(self, config: ProgramConfig, width: int, source: bytes | StoredFile) -> None:
        """Raises BundleRefused for another file than the configuration names."""
        super().__init__()
        sha256 = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else source.sha256
        if sha256 != config.sha256:
            raise BundleRefused("the program is not the one that the manifest names")
        self.config, self.file = config, OnnxFile(source, config.shape)
        self.grid, self.places = config.grid, math.prod(config.grid)
        self.to_width = nn.Sequential(nn.Linear(config.channels, width), nn.LayerNorm(width))
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("scale", torch.ones(config.channels))
        plane = (config.grid[0], config.grid[-1])  # the coronal one of a volume
        for name, grid in (("positions", config.grid), ("plane_positions", plane)):
            self.register_buffer(name, sine_positions(grid_coordinates(grid), width), persistent=False)

    def features(self, image: F32, view: int) -> F32:
        """Float32 [places, channels] of one image [1, *shape]. Raises ValueError, BundleRefused."""
        found = self.file.run(image[None], view)
        if found.shape != (1, self.places, self.config.channels):
            raise ValueError(f"the program answers {list(found.shape)}, not {[1, self.places, self.config.channels]}")
        answered: F32 = found[0].astype(np.float32, copy=False)
        return answered

    def measure(self, mean: F32, scale: F32) -> None:
        """Measure features from ``mean`` in units of ``scale`` [channels] from now on."""
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.maximum(scale, LEAST_SPREAD)))

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        if tuple(images.shape[1:]) == (1, *self.config.shape):
            given = images.detach().cpu().float().numpy()
            rows = [self.features(image, int(view)) for image, view in zip(given, views.tolist(), strict=True)]
            images = torch.from_numpy(np.stack(rows)).to(images.device)
        elif tuple(images.shape[1:]) != (self.places, self.config.channels):
            raise ValueError(
                f"images are {tuple(images.shape)}: the program takes [batch, 1, *{self.config.shape}], and answers "
                f"[batch, {self.places}, {self.config.channels}]"
            )
        tokens: Tensor = self.to_width((images - self.mean) / self.scale)
        return tokens + self.positions
