"""The optimizer: Muon for linear maps and convolutions, AdamW for the other weights and for the output heads.

Most findings have low contrast beside lungs and heart. Adam learns them one after another, strongest signal first, each
after a plateau; Muon takes steps of equal length in all directions of a matrix (K. Jordan and others, "Muon: an
optimizer for hidden layers in neural networks", 2024), so that weak signals are learned at the same time
(docs/adr/0005).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from radir_pacs.encode.network import RadirNetwork

HEADS = ("severity", "described", "asked", "report")  # the output heads
MUON_RATE = 20.0  # times AdamW's
MUON_DECAY = (
    5.0  # times AdamW's, a hundred times per step: steps are long, and the weights settle where decay balances them
)
MOMENTUM = 0.9


class Optimizer:
    """Both optimizers as one. ``decay``: of AdamW's matrices; gains and offsets have none. ``muon``: False uses AdamW
    for all weights, for comparison."""

    def __init__(self, network: RadirNetwork, decay: float, *, muon: bool = True) -> None:
        self.hidden = hidden_weights(network) if muon else []
        # torch's Muon takes matrices: a convolution's weights are viewed as one, in the same memory
        self.flat = [nn.Parameter(weight.detach().view(len(weight), -1)) for weight in self.hidden]
        known = {id(weight) for weight in self.hidden}
        rest = [p for p in network.parameters() if id(p) not in known]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups)
        self.both: dict[str, torch.optim.Optimizer] = {"adam": self.adam}
        if muon:
            self.both["muon"] = torch.optim.Muon(self.flat, weight_decay=MUON_DECAY * decay, momentum=MOMENTUM)

    def zero_grad(self) -> None:
        self.adam.zero_grad(set_to_none=True)
        for weight in self.hidden:
            weight.grad = None

    def step(self, rate: float) -> None:
        """One step at a learning rate, AdamW's."""
        for name, optimizer in self.both.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * (MUON_RATE if name == "muon" else 1.0)
        for flat, weight in zip(self.flat, self.hidden, strict=True):
            flat.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in self.both.values():
            optimizer.step()
        for flat in self.flat:
            flat.grad = None

    def state(self) -> dict[str, Tensor]:
        """All moments by name."""
        return {
            f"{name}.{i}.{moment}": tensor
            for name, optimizer in self.both.items()
            for i, moments in optimizer.state_dict()["state"].items()
            for moment, tensor in moments.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what ``state`` returned."""
        for name, optimizer in self.both.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                whose, i, moment = key.split(".")
                if whose == name:
                    moments.setdefault(int(i), {})[moment] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})


def hidden_weights(network: RadirNetwork) -> list[nn.Parameter]:
    """The weights of all trained linear maps and convolutions, except the heads."""
    return [
        cast(nn.Parameter, module.weight)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
        and name.split(".")[0] not in HEADS
        and module.weight.requires_grad
    ]
