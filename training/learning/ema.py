"""A running average of a network's weights: it finds better than the weights of any one step."""

from __future__ import annotations

import copy

import torch

from radir_pacs.encode.network import RadirNetwork


class EMA:
    """``network`` holds the average. Its memory grows with the steps up to ``most``, so that a short training, or one
    that goes on from a finished network, does not drag its first steps along."""

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
