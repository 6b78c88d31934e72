"""The training loop: region vectors by graded contrast and by the severity of findings, queries made from text.

A region-centred head, graded contrast within a region, and beside it the severity of each finding, which carries most
of the signal: without the contrast, recall on abnormal queries of radiographs was the same within its interval.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radir_pacs.encode import Bundle, ModelRegion, NetworkConfig, Preprocessing
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.tokenizer import Tokenizer
from radir_pacs.errors import BadInput
from radir_pacs.types import Region

from .augment import augmented
from .data import TrainingSet, check_usable
from .losses import graded_contrast, severity_loss
from .truth import CONCEPTS, graded, similarity

SYNONYM_SHARE = 0.15  # of steps in which a region is asked for by another of its names


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. ``minutes`` ends it early, with the learning rate brought down in time; 0 sets no limit, and only
    then is the outcome the same for the same seed."""

    epochs: int = 30
    minutes: float = 0.0
    seed: int = 0
    batch: int = 32
    learning_rate: float = 8e-4
    weight_decay: float = 0.02
    warm_up: float = 0.05  # share of the training
    severity_weight: float = 10.0
    contrast_weight: float = 0.2  # at 1, with a learning rate of 1e-3, a run on 800 patients fell apart half way
    contrast_ramp: float = 0.4  # share of the training over which the contrast comes in; findings must be seen first
    augment: bool = True
    half_precision: bool = True  # bfloat16 autocast


@dataclass(frozen=True)
class Step:
    """Where a training stands: share done in [0, 1], epoch, and the losses of the last batch."""

    done: float
    epoch: int
    contrast: float
    severity: float


def train(
    config: NetworkConfig,
    data: TrainingSet,
    recipe: Recipe,
    *,
    tell: Callable[[Step], None] = lambda step: None,
    clock: Callable[[], float] = time.monotonic,
) -> Bundle:
    """A bundle, not yet saved or measured. Raises BadInput where there is nothing to learn."""
    check_usable(data)
    if len(data) < recipe.batch:
        raise BadInput(f"{len(data)} images do not fill a batch of {recipe.batch}")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    tokenizer = Tokenizer.fitted(vocabulary_texts(data.regions))
    network = RadirNetwork(
        config.only(data.kind),
        vocabulary_size=len(tokenizer.vocabulary),
        regions=[region.key for region in data.regions],
        findings=CONCEPTS,
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    images, views = torch.from_numpy(data.images), torch.from_numpy(data.views)
    severity, sided = torch.from_numpy(data.truth.severity), torch.from_numpy(data.truth.sided)
    possible, seen = torch.from_numpy(data.truth.possible), torch.from_numpy(data.seen)
    names = _Names(tokenizer, data.regions)
    rows = torch.arange(len(data.regions))
    steps_an_epoch = len(data) // recipe.batch
    start = clock()
    for step in range(recipe.epochs * steps_an_epoch):
        if step % steps_an_epoch == 0:
            order = torch.randperm(len(data), generator=generator)
        done = step / (recipe.epochs * steps_an_epoch)
        if recipe.minutes:
            done = max(done, (clock() - start) / (60 * recipe.minutes))
            if done >= 1:
                break
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * _schedule(done, recipe.warm_up)
        first = (step % steps_an_epoch) * recipe.batch
        chosen = order[first : first + recipe.batch]
        batch = images[chosen].float()
        batch = augmented(batch, generator) if recipe.augment else batch
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half_precision):
            queries = network.text(names.drawn(generator))
            out = network(batch, views[chosen], data.kind, queries, rows)
        features = graded(severity[chosen], sided[chosen]).transpose(0, 1)
        in_view = seen[chosen]
        contrast = graded_contrast(
            out.vectors, similarity(features, features), (severity[chosen] > 0).any(dim=2), in_view
        )
        findings = severity_loss(out.severity.float(), severity[chosen], possible, in_view)
        optimizer.zero_grad(set_to_none=True)
        share = recipe.contrast_weight * (min(1.0, done / recipe.contrast_ramp) if recipe.contrast_ramp else 1.0)
        torch.autograd.backward([share * contrast + recipe.severity_weight * findings])
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        tell(Step(done, step // steps_an_epoch, float(contrast.detach()), float(findings.detach())))
    return Bundle(
        kind=data.kind,
        network=network.eval(),
        tokenizer=tokenizer,
        preprocessing=Preprocessing.of(config, data.kind),
        regions=tuple(
            ModelRegion(key=region.key, name=region.name, sided=region.laterality is not None)
            for region in data.regions
        ),
        training={
            "recipe": asdict(recipe),
            "patients": len(np.unique(data.patients)),
            "images": len(data),
            "steps": step + 1,
            "minutes": round((clock() - start) / 60, 1),
            "torch": torch.__version__,
        },
    )


def vocabulary_texts(regions: Sequence[Region]) -> list[str]:
    """The words a text encoder should hold whole: names of regions and of findings, and how they are joined."""
    names = [name for region in regions for name in (region.name, *region.synonyms)]
    findings = [concept.replace("_", " ") for concept in CONCEPTS]
    return [*names, *findings, "mild moderate severe small large no in of the with without left right bilateral"]


class _Names:
    """Token ids of all names of the regions, and a draw among them."""

    def __init__(self, tokenizer: Tokenizer, regions: Sequence[Region]) -> None:
        texts = [(region.name, *(s for s in region.synonyms if len(s) > 3)) for region in regions]
        self.ids = torch.tensor(tokenizer.batch([text for own in texts for text in own]))
        counts = torch.tensor([len(own) for own in texts])
        self.first = counts.cumsum(0) - counts
        self.synonyms = counts - 1

    def drawn(self, generator: torch.Generator) -> Tensor:
        """One name a region: mostly its own, sometimes a synonym [regions, tokens]."""
        draw = torch.rand(len(self.first), generator=generator)
        other = 1 + (torch.rand(len(self.first), generator=generator) * self.synonyms).long()
        use = (draw < SYNONYM_SHARE) & (self.synonyms > 0)
        return self.ids[self.first + torch.where(use, other, 0)]


def _schedule(done: float, warm_up: float) -> float:
    """Linear warm-up, then a half cosine to nothing."""
    if done < warm_up:
        return (done + 1e-3) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def measured(bundle: Bundle, metrics: dict[str, Any], training: dict[str, Any]) -> Bundle:
    """The bundle with what was measured, and what it was trained on, written in."""
    return Bundle(**{**vars(bundle), "metrics": metrics, "training": {**training, **bundle.training}})
