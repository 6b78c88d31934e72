"""The studies of an evaluation, from the flags of the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from radir_pacs.encode import CONFIGS, NetworkConfig, Preprocessing
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.errors import BadInput
from radir_pacs.printable import counted
from radir_pacs.types import ImageKind

from ..data.folder_set import folder_set
from ..data.phantom_set import phantom_set
from ..data.retrieval_images import is_retrieval_set
from ..data.retrieval_set import RetrievalSet
from ..data.studies import SYNTHETIC, StudySet
from .baselines import BASELINES, RANDOM
from .embeddings import Embeddings, encoded, from_file
from .exam import Exam
from .known_patients import unseen_rows, warnings
from .layout_exam import layout_exam
from .measures import I64
from .models import Model

StartBar = Callable[[str, int], Callable[[int], None]]


class EvaluationData(NamedTuple):
    """An exam, and its images as prepared for each model, by model name (none for a data set of vectors). ``paths`` and
    ``lists``: those of a data set. ``rows``: the images of the exam among ``of``, where some are left out."""

    exam: Exam
    studies: Mapping[str, StudySet]
    paths: tuple[str, ...] = ()
    lists: Mapping[str, I64] | None = None
    rows: I64 | None = None
    of: int = 0

    def vectors(
        self, model: Model, progress: Callable[[int], None], keys: Sequence[str] | None = None
    ) -> Embeddings | None:
        """A model's vectors of the exam's images, None being a random order; ``keys``: the only regions that will be
        queried. Raises BadInput."""
        if self.exam.kind in model.files:
            found = from_file(
                model.files[self.exam.kind],
                len(self.exam) if self.rows is None else self.of,
                self.paths,
                self.lists,
                tell=lambda line: print(line, file=sys.stderr),
            )
            if self.rows is not None:
                found = found.subset(self.rows)
        elif model.baseline == RANDOM:
            return None
        elif model.name not in self.studies:
            raise BadInput(f"{model.name} needs images, and this data set has none: use --images, or give vectors.npz")
        elif model.baseline is not None:
            return BASELINES[model.baseline](self.studies[model.name], progress)
        else:
            found = encoded(
                model.bundles[self.exam.kind],
                self.studies[model.name],
                progress,
                keys=() if model.unconditional else keys,
            )
        return found.unconditional() if model.unconditional else found


def evaluation_data(
    args: argparse.Namespace, kinds: Sequence[ImageKind], models: Sequence[Model], start_bar: StartBar
) -> Iterator[EvaluationData]:
    """The exam of each kind that all models and the data have. Raises BadInput where there is none, OSError."""
    shared = [kind for kind in kinds if all(kind in model.kinds for model in models)]
    if not shared:
        each = (f"{model.name} ({', '.join(sorted(model.kinds))})" for model in models)
        raise BadInput(f"none of {', '.join(sorted(kinds))} is a kind of image that all models take: {', '.join(each)}")
    if args.phantoms is not None:
        for name in known_patients(models, args.seed):
            print(f"warning: {name} was trained on patients of seed {args.seed}: use another --seed", file=sys.stderr)
    refused: list[BadInput] = []
    for kind in shared:
        try:
            yield _data_of(args, kind, models, start_bar)
        except BadInput as error:  # a folder of radiographs is searched for CT, too
            refused.append(error)
            if len(refused) == len(shared):
                raise
            print(f"warning: {kind} is left out: {error}", file=sys.stderr)


def known_patients(models: Sequence[Model], seed: int) -> Iterator[str]:
    """Models trained on the synthetic hospital ``seed``: they know some of its patients. For a model that continued
    another's training, only the last training is known."""
    for model in models:
        told = [bundle.training for bundle in model.bundles.values()]
        if any(one.get("source") == SYNTHETIC and _seed(one) == seed for one in told):
            yield model.name


def _seed(training: Mapping[str, Any]) -> Any:
    recipe = training.get("recipe")
    return recipe.get("seed") if isinstance(recipe, Mapping) else None


def _data_of(args: argparse.Namespace, kind: ImageKind, models: Sequence[Model], start_bar: StartBar) -> EvaluationData:
    """Images are prepared once per preprocessing."""
    if args.data is not None and args.images is None and is_retrieval_set(args.data):
        if args.held_out:
            raise BadInput("--held-out needs the images of the data set: use --images")
        found = layout_exam(RetrievalSet(folder=args.data, split=args.split), kind)
        if found.left_out:
            print(f"warning: left out, since they have no whole matrix: {', '.join(found.left_out)}", file=sys.stderr)
        return EvaluationData(found.exam, {}, found.paths, found.lists)
    configs = {model.name: _config(model, kind) for model in models}
    made: dict[Preprocessing, StudySet] = {}
    for config in configs.values():
        how = Preprocessing.of(config, kind)
        if how not in made:
            made[how] = _studies(args, config, kind, start_bar)
    first, *others = made.values()
    if any(one.reports != first.reports or (one.patients != first.patients).any() for one in others):
        raise BadInput("the models' preparations keep different images, so they cannot be compared")
    studies = {name: made[Preprocessing.of(config, kind)] for name, config in configs.items()}
    if not args.held_out:
        for line in warnings(models, first.names):
            print(f"warning: {line}", file=sys.stderr)
        return EvaluationData(Exam.of(first), studies)
    unseen = unseen_rows(models, first.names, first.patients)
    people = len(np.unique(first.patients[unseen]))
    every = counted(len(np.unique(first.patients)), f"{kind} patient")
    print(f"held out: {people} of {every} judged", file=sys.stderr)
    if people < 2:
        raise BadInput("--held-out leaves no two patients that the models were not trained on")
    left = {how: data.subset(unseen) for how, data in made.items()}
    studies = {name: left[Preprocessing.of(config, kind)] for name, config in configs.items()}
    exam = Exam.of(next(iter(left.values())))
    return EvaluationData(exam, studies, rows=np.flatnonzero(unseen), of=len(first))


def _config(model: Model, kind: ImageKind) -> NetworkConfig:
    """The configuration whose preprocessing the model uses; a baseline uses that of the smallest network."""
    if kind not in model.bundles:
        return CONFIGS["tiny"]
    bundle = model.bundles[kind]
    own = [bundle.network.config] if isinstance(bundle.network, RadirNetwork) else []
    for config in (*own, *CONFIGS.values()):
        if Preprocessing.of(config, kind) == bundle.preprocessing:
            return config
    raise BadInput(f"{model.name} has preprocessing of its own: give its vectors in a .npz file")


def _studies(args: argparse.Namespace, config: NetworkConfig, kind: ImageKind, start_bar: StartBar) -> StudySet:
    cache = args.cache.expanduser()
    if args.phantoms is not None:
        return phantom_set(
            config,
            kind,
            patients=args.phantoms,
            seed=args.seed,
            cache=cache,
            processes=args.jobs,
            progress=start_bar(f"{kind} patients", args.phantoms),
        )
    return folder_set(
        config,
        kind,
        args.data,
        cache=cache,
        images=args.images,
        split=args.split,
        processes=args.jobs,
        progress=start_bar(f"{kind} studies", 0),
        tell=lambda line: print(line, file=sys.stderr),
    )
