"""The input by which two installations of a network are compared; without torch, which not all who need it load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radir_pacs.types import F32


def golden_image(shape: Sequence[int]) -> F32:
    """A made-up network input [1, *shape], the same on every machine: waves that differ along each axis."""
    axes = np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    waves = [np.sin((7 + 5 * i) * axis + i) for i, axis in enumerate(axes)]
    image: F32 = np.add.reduce(waves).astype(np.float32)[None]
    return image
