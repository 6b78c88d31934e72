"""How one batch is divided: among processes, and into parts of which one is held in memory at a time.

Losses compare studies, so they need the whole batch. The costly step, the forward pass, therefore runs part by part,
and its outputs are gathered before any loss is computed: each process encodes its slice and receives the others', and
the forward pass of a part is repeated in the backward pass instead of keeping its activations (gradient checkpointing).
The gradients are those of the whole batch up to rounding, whatever the number of processes and parts.
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
        """Whether this is the process that writes files and prints."""
        return self.number == 0

    def gathered(self, own: Tensor) -> Tensor:
        """Every process's rows, in order; gradients flow back to the process that the rows came from."""
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
        """The first process's value, since clocks differ."""
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
    """Rows of all processes. Gradients are averaged over processes later, and a row was encoded by only one of them:
    its gradient is scaled up to make up for that."""

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
    """The processes that ``torchrun`` started, or this one alone. CPU: gloo; several GPUs: gloo for the small tensors,
    NCCL for the gradients."""
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
    """``parts``: the number of parts in which each process encodes its slice."""

    ranks: Ranks = Ranks()
    parts: int = 1

    def __call__(self, look: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """``look`` of all rows, [b, ...]; b is a multiple of the number of processes."""
        size = len(rows[0]) // self.ranks.count
        own = [tensor[self.ranks.number * size :][:size] for tensor in rows]
        if self.parts == 1 or not torch.is_grad_enabled():
            return self.ranks.gathered(look(*own))
        pieces = zip(*(tensor.chunk(self.parts) for tensor in own), strict=True)
        looked: list[Tensor] = [checkpoint(look, *piece, use_reentrant=False) for piece in pieces]
        return self.ranks.gathered(torch.cat(looked))
