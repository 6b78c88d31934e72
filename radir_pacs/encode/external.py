"""A network from elsewhere, held as ONNX and used the same way as ``RadirNetwork``.

Its file takes ``image`` float32 [1, 1, *shape] (prepared by the bundle's ``Preprocessing``) and, as an optional second
input, ``view`` int64 [1] (``config.VIEWS``); it answers float32 [1, regions, dim] in the order of the bundle's
regions, or [1, dim], for the whole chest. Vectors are normalised here: a cosine ignores their length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from .config import EXTERNAL_ENGINE, MOST_VOXELS, MOST_WIDTH
from .folder import StoredFile
from .network import Output
from .onnx_file import OnnxFile

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


class ExternalNetwork(nn.Module):
    """Runs an ONNX file on the CPU. It reads no text: ``queries`` of a call are ignored."""

    findings: tuple[str, ...] = ()

    def __init__(self, config: ExternalConfig, source: bytes | StoredFile, regions: Sequence[str]) -> None:
        super().__init__()
        self.config, self.regions = config, tuple(regions)
        self.file = OnnxFile(source, config.shape)

    def use_threads(self, threads: int) -> None:
        """Use this many threads; until then it uses as many as torch did when it was opened."""
        self.file.use_threads(threads)

    def raw(self, image: np.ndarray[Any, Any], view: int) -> np.ndarray[Any, Any]:
        """The raw answer of the file to one image [1, 1, *shape]. Raises as ``OnnxFile.run`` does."""
        return self.file.run(image, view)

    @torch.no_grad()
    def forward(self, images: Tensor, views: Tensor, kind: ImageKind, queries: Tensor, regions: Tensor) -> Output:
        """As ``RadirNetwork.forward``, one image at a time; a vector without direction comes out as NaN."""
        rows = len(self.regions)
        answers = []
        for image, view in zip(images.cpu().numpy(), views.tolist(), strict=True):
            out = self.raw(image[None], int(view))
            if out.ndim == 2:
                out = out[:, None]
            if out.shape != (1, rows, self.config.embedding_dim):
                raise ValueError(f"the model answers {list(out.shape)}, not {[1, rows, self.config.embedding_dim]}")
            answers.append(torch.from_numpy(out))
        raw = torch.cat(answers)[:, regions.cpu()]
        lengths = raw.norm(dim=-1, keepdim=True)
        vectors = torch.where(lengths < LEAST_LENGTH, torch.nan, functional.normalize(raw, dim=-1)).to(images.device)
        return Output(vectors, vectors.new_zeros(*vectors.shape[:2], 0, 3), vectors.new_zeros(vectors.shape[:2]))

    def report_vectors(self, token_ids: Tensor) -> Tensor:
        """Raises BadInput: a network from elsewhere comes without its text side."""
        raise BadInput(f"{self.config.name} was imported as an image encoder: it reads no reports")
