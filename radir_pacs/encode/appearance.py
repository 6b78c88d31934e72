"""How a region looks to a network trained on photographs, beside what our own network says of it.

A network that has seen only synthetic patients does not know the texture of real radiographs; one trained on
photographs has seen texture of every kind, but nothing of medicine. Their vectors, side by side, find more real cases
than either alone (docs/adr/0031, docs/results/backbone.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import BACKBONE_STRIDE, AppearanceConfig
from .efficientnet import EfficientNetLite

LEAST_RANGE = 1e-6  # of an image's values
ON_A_PROCESSOR = 2  # images at a time


class Appearance(nn.Module):
    """Images [batch, 1, *shape] to unit vectors [batch, counted, dim] of the regions where it counts, ``keys``.

    Mean and spread of the features where the region lies on a frontal view (``places`` [counted, cells], each row
    summing to 1), measured from ``mean`` in units of ``scale`` [counted, 2 width], along ``axes`` [counted, 2 width,
    dim]. A lateral view shows no region in that place: there the features of the whole picture count.

    ``row`` [regions]: of each of the network's regions its row among ``keys``, or that of the zeros after them.
    """

    places: Tensor
    row: Tensor
    mean: Tensor
    scale: Tensor
    axes: Tensor

    def __init__(self, config: AppearanceConfig, regions: Sequence[str]) -> None:
        """``regions``: keys of the network's. Raises ValueError where one that counts is not among them."""
        super().__init__()
        self.config = config
        self.keys = config.regions or tuple(regions)
        if missing := set(self.keys) - set(regions):
            raise ValueError(f"the network does not know {', '.join(sorted(missing))}")
        counted = len(self.keys)
        row = [self.keys.index(key) if key in self.keys else counted for key in regions]
        self.register_buffer("row", torch.tensor(row), persistent=False)
        self.backbone = EfficientNetLite(config.backbone).requires_grad_(False)
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        cells, features = math.prod(n // BACKBONE_STRIDE for n in config.shape), 2 * self.backbone.width
        self.register_buffer("places", torch.full((counted, cells), 1 / cells))
        self.register_buffer("mean", torch.zeros(counted, features))
        self.register_buffer("scale", torch.ones(counted, features))
        self.register_buffer("axes", torch.zeros(counted, features, config.dim))

    @torch.no_grad()
    def forward(self, images: Tensor, lateral: Tensor) -> Tensor:
        """``lateral``: bool [batch]."""
        features = self.features(images, lateral)
        with torch.autocast(features.device.type, enabled=False):
            measured = (features - self.mean) / self.scale
            return functional.normalize(torch.einsum("bqf,qfd->bqd", measured, self.axes.float()), dim=-1)

    def beside(self, own: Tensor, seen: Tensor, rows: Tensor) -> Tensor:
        """Unit vectors of the regions ``rows`` [q]: our network's [batch, q, n] and what ``forward`` saw, joined."""
        row = self.row[rows]
        share = self.config.share * (row < len(self.keys)).to(own.dtype)[:, None]
        return torch.cat([own * (1 - share).sqrt(), functional.pad(seen, (0, 0, 0, 1))[:, row] * share.sqrt()], dim=-1)

    @torch.no_grad()
    def features(self, images: Tensor, lateral: Tensor) -> Tensor:
        """Mean and spread of the backbone's features in each region, float32 [batch, counted, 2 width]."""
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        maps = self._maps(2 * (images - low) / (high - low).clamp(min=LEAST_RANGE) - 1)
        with torch.autocast(maps.device.type, enabled=False):  # a spread is a difference of nearly equal numbers
            maps, everywhere = maps.float(), torch.full_like(self.places, 1 / maps.shape[2])
            places = torch.where(lateral[:, None, None], everywhere, self.places.float())
            mean, square = (maps @ places.mT).mT, (maps.square() @ places.mT).mT
            return torch.cat([mean, (square - mean.square()).clamp(min=0).sqrt()], dim=-1)

    def _maps(self, shown: Tensor) -> Tensor:
        """What the backbone makes of images [batch, 1, rows, columns]: [batch, width, cells].

        A processor gets a few images at a time, so that what a layer hands to the next one stays in its cache: that
        takes a quarter of the time.
        """
        together = ON_A_PROCESSOR if shown.device.type == "cpu" else max(1, len(shown))
        colours = shown.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        return torch.cat([self.backbone(some) for some in torch.split(colours, together)]).flatten(2)


def reduced(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Images [batch, 1, *larger], prepared at a whole multiple of ``shape``, as if prepared at ``shape``: averaged, and
    the spread of what is not margin made 1 again (a margin is 0)."""
    factor = images.shape[-1] // shape[-1]
    if factor == 1:
        return images
    small = functional.avg_pool2d(images, factor)
    content = (small != 0).sum((1, 2, 3), keepdim=True).clamp(min=1)
    spread = (small.square().sum((1, 2, 3), keepdim=True) / content).sqrt()
    return small / spread.clamp(min=LEAST_RANGE)
