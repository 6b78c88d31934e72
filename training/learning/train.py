"""The training loop: region vectors learned from what reports say, with queries encoded from text.

Every random draw is determined by the seed and the number of the step, so weights, optimizer, average and top lists are
the whole state of a training, and one resumed from a checkpoint ends with the same weights.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radir_pacs.encode import Bundle, ModelRegion, NetworkConfig, Preprocessing
from radir_pacs.encode.tokens import PARTS as IMAGE_ENCODER
from radir_pacs.errors import BadInput

from ..data.judgements import Judgements
from ..data.studies import StudySet, check_usable
from .augment import Augmentation
from .batch_sharding import BatchSharding, Ranks
from .batches import BatchSampler, TopLists
from .checkpoints import Checkpoints, tensors_under
from .ema import EMA
from .initial_model import initial_model
from .objective import ON_VECTORS, Objective
from .optimizer import Optimizer
from .precision import has_bfloat16
from .recipe import Recipe, stages
from .training_set import TrainingSet

# frozen in the second published stage
ENCODERS = (*IMAGE_ENCODER, "text")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Step:
    """One step: its number, the share done in [0, 1], the epoch, the learning rate, and the batch's losses."""

    number: int
    done: float
    epoch: int
    learning_rate: float
    losses: dict[str, float]


def train(
    config: NetworkConfig,
    data: StudySet,
    recipe: Recipe,
    *,
    start: Bundle | None = None,
    text_model: Path | None = None,
    device: torch.device = CPU,
    ranks: Ranks = Ranks(),  # noqa: B008  frozen
    checkpoints: Checkpoints | None = None,
    begin: Callable[[Training], None] = lambda training: None,
    tell: Callable[[Step], None] = lambda step: None,
    look: Callable[[int, Bundle], None] | None = None,
    judgements: Judgements | None = None,
    program: bytes = b"",
    clock: Callable[[], float] = time.monotonic,
) -> Bundle:
    """A bundle, not yet saved or measured; ``start`` is a bundle to train further (fine-tuning on local reports),
    itself not changed; ``judgements`` are readers' of pairs of rows of the data; ``text_model`` the folder of a
    BERT-family model to use in place of our own text encoder; ``program`` the ONNX file of a configuration that has one
    in place of a stem, whose features the data then hold.

    ``begin`` gets the training before its first step, ``look`` the network after each epoch. Where ``checkpoints`` hold
    a checkpoint, training resumes from it. Raises BadInput where there is nothing to learn or the checkpoint belongs to
    another training, or where it diverges.
    """
    training = Training(config, data, recipe, start, text_model, device, ranks, clock, judgements, program)
    if checkpoints is not None:
        checkpoints.resume(training)
        if not ranks.all_have(training.number):  # this also keeps any process from overwriting what another still reads
            raise BadInput("the processes do not see the same checkpoint: --work must be a folder that they share")
    begin(training)
    while (done := training.done()) < 1:
        tell(training.step(done))
        epoch_ends = training.number % training.sampler.steps_an_epoch == 0
        if look is not None and epoch_ends:
            look(training.number // training.sampler.steps_an_epoch - 1, training.bundle())
        if checkpoints is not None and ranks.first:
            checkpoints.keep(training, now=epoch_ends)
    return training.bundle()


class Training:
    """A training between two steps; ``number`` steps are done."""

    def __init__(
        self,
        config: NetworkConfig,
        data: StudySet,
        recipe: Recipe,
        start: Bundle | None = None,
        text_model: Path | None = None,
        device: torch.device = CPU,
        ranks: Ranks = Ranks(),  # noqa: B008  frozen
        clock: Callable[[], float] = time.monotonic,
        judgements: Judgements | None = None,
        program: bytes = b"",
    ) -> None:
        check_usable(data)
        if len(data) < recipe.batch:
            raise BadInput(f"{len(data)} images do not fill a batch of {recipe.batch}: name a smaller --batch")
        if recipe.batch % ranks.count:
            raise BadInput(f"a batch of {recipe.batch} cannot be divided among {ranks.count} processes")
        self.config = config if start is None else start.network.config
        self.data, self.recipe, self.device, self.ranks = data, recipe, device, ranks
        torch.manual_seed(recipe.seed)
        initial = initial_model(config, data, start, text_model, recipe.withheld, program)
        self.network, self.tokenizer = initial.network.to(device), initial.tokenizer
        if data.encoded:  # the tokens stay what they are: so does what made them
            self._freeze(IMAGE_ENCODER)
        self.preprocessing = Preprocessing.of(config, data.kind) if start is None else start.preprocessing
        self.judgements = judgements if judgements is not None and judgements.pairs else None
        self.training_set = TrainingSet(
            data,
            initial.regions,
            self.network.findings,
            self.tokenizer,
            hierarchy=recipe.hierarchy,
            judgements=self.judgements,
        )
        sharding = BatchSharding(ranks, recipe.accumulate)
        self.stages = tuple(
            Objective(stage, self.training_set, self.tokenizer, data.kind, sharding) for stage in stages(recipe)
        )
        self.optimizer = Optimizer(self.network, recipe.weight_decay, muon=recipe.muon)
        self.average = EMA(self.network, recipe.average) if recipe.average else None
        augment = recipe.augment and not (data.encoded or data.features)
        self.augmentation = Augmentation(data.images.shape[2:]) if augment else None
        self.sampler = BatchSampler(len(data), recipe.batch, recipe.seed)
        dim = self.network.config.embedding_dim
        self.lists = TopLists(self.training_set, dim) if recipe.hard_negatives else None
        self.number, self.steps = 0, recipe.epochs * self.sampler.steps_an_epoch
        self.identity = self._identity()
        if not ranks.all_have(self.identity):
            raise BadInput("the processes do not train on the same data with the same settings")
        self.clock, self.started = clock, clock()

    @property
    def elapsed_s(self) -> float:
        """Including the time before a restart."""
        return self.clock() - self.started

    def done(self) -> float:
        """The share done of the steps or of the minutes, whichever is larger."""
        done = self.number / self.steps
        if self.recipe.minutes:
            done = max(done, self.ranks.agreed(self.elapsed_s / (60 * self.recipe.minutes)))
        return done

    def step(self, done: float) -> Step:
        """One batch; ``done`` sets the learning rate. Raises BadInput where the training diverges."""
        recipe, number = self.recipe, self.number
        stage = min(int(done * len(self.stages)), len(self.stages) - 1)
        done_of_stage = done * len(self.stages) - stage
        if stage:
            self._freeze(ENCODERS)
        draw = recipe.seed * 1_000_003 + number
        generator = torch.Generator().manual_seed(draw)
        torch.manual_seed(draw + self.ranks.number)  # for dropout
        rate = recipe.learning_rate * _schedule(done_of_stage, recipe.warm_up)
        rows = self.sampler.rows(number)
        if self.lists is not None:
            rows = self.lists.harder(rows, recipe.hard_negatives, recipe.hard_top, generator)
        if self.judgements is not None:
            rows = self.judgements.meet(rows, generator)
        batch = self.training_set.batch(rows)
        images = batch.images if self.augmentation is None else self.augmentation(batch.images, generator)
        batch = replace(batch, images=images).to(self.device)
        objective = self.stages[stage]
        measured = objective(self.network.train(), batch, number, generator)
        self.optimizer.zero_grad()
        ramp = min(1.0, done_of_stage / recipe.contrast_ramp) if recipe.contrast_ramp else 1.0
        weighted = [
            objective.recipe.losses[name] * (ramp if name in ON_VECTORS else 1.0) * loss
            for name, loss in measured.by_name.items()
        ]
        torch.autograd.backward([torch.stack(weighted).sum()])
        self.ranks.average_gradients(self.network.parameters())
        length = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if not bool(length.isfinite()):  # one such step would leave no weight a number
            raise BadInput(
                f"the training diverged: the gradient of step {number} is not a finite number;"
                f" try a learning rate below {recipe.learning_rate:g}, or full precision"
            )
        self.optimizer.step(rate)
        if self.average is not None:
            self.average.follow(self.network)
        if self.lists is not None:
            self.lists.keep(batch, measured.vectors.cpu())
        self.number += 1
        losses: dict[str, float] = {name: float(loss.detach()) for name, loss in measured.by_name.items()}
        return Step(number, done, number // self.sampler.steps_an_epoch, rate, losses)

    def _freeze(self, parts: Sequence[str]) -> None:
        for name, parameter in self.network.named_parameters():
            if name.split(".")[0] in parts:
                parameter.requires_grad_(False)

    def bundle(self) -> Bundle:
        """The network in its present state, in evaluation mode and on the CPU."""
        kept = (self.network if self.average is None else self.average.network).eval()
        return Bundle(
            kind=self.data.kind,
            network=kept if self.device == CPU else copy.deepcopy(kept).to(CPU),
            tokenizer=self.tokenizer,
            preprocessing=self.preprocessing,
            regions=tuple(
                ModelRegion(key=region.key, name=region.name, sided=region.laterality is not None)
                for region in self.training_set.regions
            ),
            training={
                "recipe": asdict(self.recipe),
                "computed_in": "bfloat16" if self.recipe.half_precision and has_bfloat16(self.device) else "float32",
                "patients": len(np.unique(self.data.patients)),
                "images": len(self.data),
                "steps": self.number,
                "minutes": round(self.elapsed_s / 60, 1),
                "torch": torch.__version__,
            },
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on: tensors and numbers."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.network.state_dict().items()}
        if self.lists is not None:
            tensors |= {"lists.vectors": self.lists.vectors, "lists.known": self.lists.known}
        averaged = 0 if self.average is None else self.average.steps
        return tensors, {"number": self.number, "elapsed_s": self.elapsed_s, "averaged": averaged}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Load what ``state`` returned."""
        self.network.load_state_dict(tensors_under("network", tensors))
        self.optimizer.restore(tensors_under("optimizer", tensors))
        if self.average is not None:
            self.average.network.load_state_dict(tensors_under("average", tensors))
            self.average.steps = int(numbers["averaged"])
        if self.lists is not None:
            self.lists.vectors, self.lists.known = tensors["lists.vectors"], tensors["lists.known"]
        self.number = int(numbers["number"])
        self.started = self.clock() - float(numbers["elapsed_s"])

    def _identity(self) -> dict[str, Any]:
        """What identifies this training, as JSON."""
        data, beginning = hashlib.sha256(), hashlib.sha256()
        for array in (self.data.images, self.data.views, self.data.patients):
            data.update(np.ascontiguousarray(array).data)
        data.update(repr(self.data.reports).encode())
        data.update(repr([sorted(said.items()) for said in self.data.said]).encode())
        for tensor in self.network.state_dict().values():
            beginning.update(tensor.cpu().contiguous().numpy().tobytes())
        beginning.update(repr((self.tokenizer.vocabulary, self.network.regions, self.network.findings)).encode())
        if self.judgements is not None:
            data.update(repr((self.judgements.told(), self.judgements.weight, self.judgements.together)).encode())
        return {
            "network": self.network.config.to_json(),
            "recipe": asdict(self.recipe),
            "processes": self.ranks.count,
            "device": self.device.type,
            "data": data.hexdigest()[:16],
            "beginning": beginning.hexdigest()[:16],
        }


def _schedule(done: float, warm_up: float) -> float:
    """Linear warm-up, then cosine decay to zero."""
    if done < warm_up:
        return (done + 1e-3) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def measured(bundle: Bundle, metrics: dict[str, Any], training: dict[str, Any]) -> Bundle:
    """The bundle with its measurements and its training data filled in."""
    return Bundle(**{**vars(bundle), "metrics": metrics, "training": {**training, **bundle.training}})
