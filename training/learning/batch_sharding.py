"""How the images of one batch are shared out: among processes, and in parts of which one is held in memory at a time.

Losses compare studies, so they need the whole batch. What is costly, an image's way through the network, is therefore
done piece by piece, and what comes out is brought together before any loss is taken: each process looks at its slice
and gets the others', and a part's way is gone a second time for its gradients instead of being remembered. The
gradients are those of the whole batch, whatever the number of processes and parts, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PATIENCE = timedelta(hours=12)  # the first process draws patients and measures while the others wait


@dataclass(frozen=True)
class Ranks:
    """Process ``number`` of ``count`` that train one network together."""

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.number == 0

    def gathered(self, own: Tensor) -> Tensor:
        """Every process's rows, in order; the gradient goes back to where the rows came from."""
        if self.count == 1:
            return own
        found: Tensor = _Gathered.apply(own, self.number, self.count)  # type: ignore[no-untyped-call]
        return found

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):  # type: ignore[no-untyped-call]
            gradient.copy_(mean.view_as(gradient))

    def agreed(self, value: float) -> float:
        """The first process's value: clocks differ."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def all_have(self, value: Any) -> bool:
        """Whether every process has the same value as the first."""
        if self.count == 1:
            return True
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return all(other == found[0] for other in found)

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()


class _Gathered(torch.autograd.Function):
    """Rows of all processes. Gradients are averaged over processes later, and only one of them has looked at a row:
    its gradient counts for all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, number: int, count: int) -> Tensor:
        ctx.number, ctx.count = number, count
        rows = own.detach().float().contiguous()
        parts = [torch.empty_like(rows) for _ in range(count)]
        dist.all_gather(parts, rows)
        return torch.cat(parts).to(own.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        own = gradients[0].chunk(ctx.count)[ctx.number]
        return own * ctx.count, None, None


@contextmanager
def process_group() -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, or this one alone. CPU: gloo; several GPUs: gloo carries the small
    tensors and NCCL the gradients."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "MASTER_ADDR" not in os.environ:
        yield Ranks()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class BatchSharding:
    """``parts``: in how many parts each process looks at its slice."""

    ranks: Ranks = Ranks()
    parts: int = 1

    def __call__(self, look: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """``look`` of all rows, [b, ...]; b is a multiple of the processes."""
        size = len(rows[0]) // self.ranks.count
        own = [tensor[self.ranks.number * size :][:size] for tensor in rows]
        if self.parts == 1 or not torch.is_grad_enabled():
            return self.ranks.gathered(look(*own))
        pieces = zip(*(tensor.chunk(self.parts) for tensor in own), strict=True)
        looked: list[Tensor] = [checkpoint(look, *piece, use_reentrant=False) for piece in pieces]
        return self.ranks.gathered(torch.cat(looked))
