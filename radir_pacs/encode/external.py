"""A network from elsewhere, held as ONNX and used the same way as ``RadirNetwork``.

Its file takes ``image`` float32 [1, 1, *shape] (prepared by the bundle's ``Preprocessing``) and, as an optional second
input, ``view`` int64 [1] (``config.VIEWS``); it answers float32 [1, regions, dim] in the order of the bundle's
regions, or [1, dim], for the whole chest. Vectors are normalised here: a cosine ignores their length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from .external_config import LEAST_LENGTH, ExternalConfig
from .folder import StoredFile
from .network import Output
from .onnx_file import OnnxFile


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

    @torch.no_grad()
    def forward(self, images: Tensor, views: Tensor, kind: ImageKind, queries: Tensor, regions: Tensor) -> Output:
        """As ``RadirNetwork.forward``, one image at a time; a vector without direction comes out as NaN."""
        rows = len(self.regions)
        answers = []
        for image, view in zip(images.cpu().numpy(), views.tolist(), strict=True):
            out = self.file.run(image[None], int(view))
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
