"""The studies an evaluation is made on, from the words of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

from radir_pacs.encode import CONFIGS, NetworkConfig, Preprocessing
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from ..studies import StudySet
from .exam import Exam
from .models import Model

StartBar = Callable[[str, int], Callable[[int], None]]


class Material(NamedTuple):
    """An exam, and its images as each model takes them (by model name; none for a data set of vectors)."""

    exam: Exam
    studies: dict[str, StudySet]
    paths: tuple[str, ...]


def material(args: argparse.Namespace, kind: ImageKind, models: Sequence[Model], start_bar: StartBar) -> Material:
    """The exam of one kind and the images of every model, each preparation made once. Raises BadInput, OSError."""
    configs = {model.name: _config(model, kind) for model in models}
    made: dict[Preprocessing, StudySet] = {}
    for config in configs.values():
        how = Preprocessing.of(config, kind)
        if how not in made:
            made[how] = _studies(args, config, kind, start_bar)
    sets = list(made.values())
    if any(len(one) != len(sets[0]) or one.reports != sets[0].reports for one in sets):
        raise BadInput("the models' preparations keep different images, so they cannot be compared")
    studies = {name: made[Preprocessing.of(config, kind)] for name, config in configs.items()}
    return Material(Exam.of(sets[0]), studies, ())


def _config(model: Model, kind: ImageKind) -> NetworkConfig:
    """A rival takes what the smallest network takes."""
    return model.bundles[kind].network.config if kind in model.bundles else CONFIGS["tiny"]


def _studies(args: argparse.Namespace, config: NetworkConfig, kind: ImageKind, start_bar: StartBar) -> StudySet:
    cache = args.cache.expanduser()
    if args.phantoms is not None:
        from ..phantom_set import phantom_set

        return phantom_set(
            config,
            kind,
            patients=args.phantoms,
            seed=args.seed,
            cache=cache,
            processes=args.jobs,
            progress=start_bar(f"{kind} patients", args.phantoms),
        )
    from ..folder_set import folder_set

    return folder_set(config, kind, args.data, cache=cache, progress=start_bar(f"{kind} images", 0))
