"""Where tokens lie: one geometry for radiographs, volumes and texts."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def sine_positions(coordinates: Tensor, width: int) -> Tensor:
    """Fixed sine and cosine codes [n, width] of coordinates [n, axes] in [0, 1]; what does not divide stays zero."""
    axes = coordinates.shape[1]
    steps = width // (2 * axes)
    frequencies = math.pi * torch.logspace(0, 6, steps, base=2.0)
    angles = coordinates[:, :, None] * frequencies
    code = torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
    return functional.pad(code, (0, width - code.shape[1]))


def grid_coordinates(grid: tuple[int, ...]) -> Tensor:
    """Centres [tokens, 3] of a grid of tokens as (height from the feet, depth, right to left), in [0, 1].

    A radiograph lies in the coronal plane of the same space (its first row is the head), so that what the shared
    blocks learn of height and side on one kind of image holds on the other.
    """
    axes = [(torch.arange(n, dtype=torch.float32) + 0.5) / n for n in grid]
    if len(grid) == 2:
        axes = [axes[0].flip(0), torch.tensor([0.5]), axes[1]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
