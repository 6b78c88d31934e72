"""Exponential moving average of a network's weights: it retrieves better than the weights of any single step."""

from __future__ import annotations

import copy

import torch

from radir_pacs.encode.network import RadirNetwork


class EMA:
    """``network`` holds the average. Its decay grows with the steps up to ``most``, so that the first steps do not
    weigh on a short training or on fine-tuning."""

    def __init__(self, network: RadirNetwork, most: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.most, self.steps = most, 0

    @torch.no_grad()
    def follow(self, network: RadirNetwork) -> None:
        kept = min(self.most, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        current = network.state_dict()
        for name, own in self.network.state_dict().items():
            if own.is_floating_point():
                own.lerp_(current[name], 1 - kept)
            else:
                own.copy_(current[name])
