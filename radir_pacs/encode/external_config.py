"""What a bundle says about a network from elsewhere; without torch, which the trial of such a network does not load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .config import EXTERNAL_ENGINE, MOST_VOXELS, MOST_WIDTH

LEAST_LENGTH = 1e-6  # of a vector before normalising: a shorter one has no direction


@dataclass(frozen=True, kw_only=True)
class ExternalConfig:
    """What a bundle says about a network that is not ours. Raises ValueError for sizes that are not served."""

    name: str
    shape: tuple[int, ...]
    embedding_dim: int
    engine: str = EXTERNAL_ENGINE

    def __post_init__(self) -> None:
        if self.engine != EXTERNAL_ENGINE:
            raise ValueError(f"no engine runs {self.engine!r}")
        if len(self.shape) not in (2, 3) or min(self.shape) < 1 or int(np.prod(self.shape)) > MOST_VOXELS:
            raise ValueError(f"an input of {self.shape} is not served")
        if not 2 <= self.embedding_dim <= MOST_WIDTH:
            raise ValueError(f"vectors have 2 to {MOST_WIDTH} numbers, not {self.embedding_dim}")

    @property
    def vector_dim(self) -> int:
        return self.embedding_dim

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ExternalConfig:
        """Raises ValueError, TypeError or KeyError on anything but what ``to_json`` writes."""
        return cls(**{**value, "shape": tuple(int(n) for n in value["shape"])})
