"""A network from elsewhere, held as ONNX and used the same way as ``RadirNetwork``.

Its file takes ``image`` float32 [1, 1, *shape] (prepared by the bundle's ``Preprocessing``) and, as an optional second
input, ``view`` int64 [1] (``network.VIEWS``); it answers float32 [1, regions, dim] in the order of the bundle's
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

from radir_pacs.errors import BadInput, BundleRefused
from radir_pacs.types import ImageKind

from .config import EXTERNAL_ENGINE, MOST_VOXELS, MOST_WIDTH
from .network import Output
from .onnx_check import MISSING, check_onnx

LEAST_LENGTH = 1e-6  # of a vector before normalising: a shorter one has no direction
_FLOATS, _INTEGERS = "tensor(float)", "tensor(int64)"


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
    """Runs an ONNX file on the CPU. ``content`` is the file. It reads no text: ``queries`` of a call are ignored."""

    findings: tuple[str, ...] = ()

    def __init__(self, config: ExternalConfig, content: bytes, regions: Sequence[str]) -> None:
        """Raises BundleRefused for a file that is not served, ValueError for one that the runtime cannot open."""
        super().__init__()
        check_onnx(content)
        self.config, self.content, self.regions = config, content, tuple(regions)
        self._session = _session(content, torch.get_num_threads())
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        kinds = [value.type for value in inputs]
        if kinds not in ([_FLOATS], [_FLOATS, _INTEGERS]):
            raise BundleRefused(
                f"the model takes {', '.join(kinds) or 'nothing'}: export it with the input image float32 "
                f"{[1, 1, *config.shape]} and, if it wants one, view int64 [1]"
            )
        if len(outputs) != 1 or outputs[0].type != _FLOATS:
            raise BundleRefused(f"the model has {len(outputs)} outputs: export it with one, the float32 vectors")
        taken = inputs[0].shape
        if len(taken) != 2 + len(config.shape) or any(
            isinstance(n, int) and n != wanted for n, wanted in zip(taken, (1, 1, *config.shape), strict=True)
        ):
            raise BundleRefused(
                f"the model takes images of {taken}, the preprocessing makes {[1, 1, *config.shape]}: choose the "
                "--preprocessing it was trained with, or export it for this shape"
            )
        self._inputs = tuple(value.name for value in inputs)

    def use_threads(self, threads: int) -> None:
        """Use this many threads; until then it uses as many as torch did when it was loaded."""
        self._session = _session(self.content, threads)

    def raw(self, image: np.ndarray[Any, Any], view: int) -> np.ndarray[Any, Any]:
        """The raw answer of the file to one image [1, 1, *shape]. Raises ValueError when it fails."""
        fed = (image.astype(np.float32, copy=False), np.array([view], np.int64))
        try:
            (out,) = self._session.run(None, dict(zip(self._inputs, fed, strict=False)))
        except Exception as error:  # the runtime's errors share no other base
            raise ValueError(f"the model fails on an image of {list(image.shape)}: {_first_line(error)}") from None
        return np.asarray(out)

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


def _session(content: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise BundleRefused(MISSING) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # we report errors ourselves, once
    options.use_deterministic_compute = True
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no other base
        raise ValueError(f"the runtime cannot open the model: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return "".join(c for c in line if c.isprintable())[:200]
