"""An estimate of the memory that a training needs, given before it starts rather than found when the system kills
it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from radir_pacs.errors import BadInput

from .batch_sharding import Ranks
from .objective import TRIPLET_REGIONS
from .precision import autocast
from .recipe import stages
from .train import Training

GB = 1e9
COPIES = 5  # copies of the weights, at most: the weights, gradients, two moments, average
TRANSIENT = 1.3  # temporaries of one operation, in addition to the activations kept for the gradients
CUBIC: dict[str, int] = {"smooth_ap": 6, "triplet": 6, "faulty_triplet": 6}  # tensors of [regions, b, b, b] at once
SQUARE = 10  # tensors of [regions, b, b] at once
NARROW = 0.8  # share of the free memory above which we warn
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes of one process in addition to the data it already holds. ``images``: those in the network at once."""

    weights: int
    activations: int
    tables: int
    images: int

    @property
    def total(self) -> int:
        return self.weights + self.activations + self.tables

    def __str__(self) -> str:
        return (
            f"{self.total / GB:.2f} GB beside the data: weights and optimizer {self.weights / GB:.2f}, {self.images} "
            f"images in the network {self.activations / GB:.2f}, losses and lists {self.tables / GB:.2f}"
        )


def need(training: Training) -> Need:
    """An estimate; one image is passed through the network to measure its activations."""
    recipe, network = training.recipe, training.network
    queries = len(training.training_set.regions) + recipe.phrases
    images = -(-recipe.batch // (training.ranks.count * recipe.accumulate))
    weights = sum(p.nbytes for p in network.parameters())
    voxels = training.data.images[0].size
    wanted = {name for stage in stages(recipe) for name in stage.losses}
    deepest = max((CUBIC.get(name, 0) for name in wanted), default=0) * min(TRIPLET_REGIONS, queries)
    features = recipe.batch * queries * (network.config.width + 6 * network.config.embedding_dim) * 4
    findings = recipe.batch * queries * len(network.findings) * 3 * 4 * 4
    losses = 4 * (SQUARE * queries * recipe.batch**2 + deepest * recipe.batch**3) + features + findings
    lists = 0 if training.lists is None else 2 * training.lists.vectors.nbytes
    return Need(
        weights=COPIES * weights,
        activations=int(TRANSIENT * images * _remembered(training, queries)) + 3 * recipe.batch * voxels * 4,
        tables=losses + lists,
        images=images,
    )


def check_memory(training: Training) -> tuple[Need, str | None]:
    """The memory needed, and a warning where it is tight. Raises BadInput, saying what to do, where there is not
    enough."""
    needed, free = need(training), share_of_free(training.device, training.ranks)
    if needed.total > free:
        raise BadInput(
            f"the training needs about {needed}; {free / GB:.2f} GB are free: use a smaller --batch, or process "
            f"the batch in parts with --accumulate {_parts(training, needed, free)}"
        )
    narrow = f"only {free / GB:.2f} GB of memory are free" if needed.total > NARROW * free else None
    return needed, narrow


def _parts(training: Training, needed: Need, free: int) -> int:
    """The number of parts to divide the batch into, as far as that helps."""
    left = max(free - needed.weights - needed.tables, 1)
    wanted = training.recipe.accumulate * -(-needed.activations // left)
    return int(min(max(wanted, 2), max(2, training.recipe.batch // training.ranks.count)))


def share_of_free(device: torch.device, ranks: Ranks, *, after_first: bool = False) -> int:
    """What this process may still allocate: those of one machine share its memory, while each has a GPU of its own.

    after_first: the first process of all has taken its own already.
    """
    free = free_bytes(device)
    if device.type == "cuda":
        return free
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if after_first and 0 < ranks.number < here:  # on the machine of the first
        here -= 1
    return free // here


def free_bytes(device: torch.device) -> int:
    """What a process may still allocate, within the limits of its container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        most, used = (path.read_text().strip() for path in _LIMITS)
        return free if most == "max" else min(free, int(most) - int(used))
    except (OSError, ValueError):
        return free


def _remembered(training: Training, queries: int) -> int:
    """Bytes of activations that one image keeps for the gradients, without the weights."""
    network, batch = training.network, training.training_set.batch(training.sampler.rows(0)[:1]).to(training.device)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in weights:
            held[place] = tensor  # kept alive: freed memory would be used again and counted once for two tensors
        return tensor

    asked = torch.zeros(queries, network.config.width, device=training.device)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(training.device, wanted=training.recipe.half_precision),
    ):
        tokens = batch.images
        if not training.data.encoded:
            tokens = network.image_tokens(batch.images, batch.views, training.data.kind)
        network.decode(tokens, asked)
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())
