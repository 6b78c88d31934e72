"""A comparison of models on all kinds of images that they share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from .compare import MetricRow, Twins, needed, row_json, rows, tally, twins
from .embeddings import Embeddings
from .evaluation_data import StartBar, evaluation_data
from .exam import region_name
from .examine import ABNORMAL, QUERIES, examine
from .models import Model
from .regions import LEAST_QUERIES, candidates, chosen, named
from .relevance_source import MINED

FORMAT = 1
NOTE = "Decision support, not diagnosis."


@dataclass(frozen=True, kw_only=True)
class Contest:
    """``tables`` by (judge, queries), the rows of all kinds in turn; ``data`` describes each kind's studies.

    ``names``: the models, ours first. ``by_chance``: those without a text tower, which score the random line from image
    to report. ``held_out``: judged only by patients that no model was trained on.
    """

    names: tuple[str, ...]
    data: dict[str, Any]
    tables: dict[tuple[str, str], tuple[MetricRow, ...]]
    by_chance: tuple[str, ...]
    held_out: bool
    twins: tuple[Twins, ...] = ()

    def tallies(self, source: str = MINED, queries: str = ABNORMAL) -> dict[str, dict[str, int]]:
        """Per opponent; the headline is the abnormal queries, judged by reports."""
        return {other: tally(self.tables[source, queries], other) for other in self.names[1:]}

    def as_json(self) -> dict[str, Any]:
        sources: dict[str, Any] = {}
        for (source, queries), table in self.tables.items():
            sources.setdefault(source, {})[queries] = {
                "tally": self.tallies(source, queries),
                "metrics": [row_json(row) for row in table],
            }
        return {
            "format": FORMAT,
            "note": NOTE,
            "ours": self.names[0],
            "models": list(self.names),
            "without_text_tower": list(self.by_chance),
            "identical": [
                {
                    "kind": one.kind.value,
                    "models": list(one.models),
                    "regions": list(one.regions),
                    "everywhere": one.everywhere,
                    "vectors": one.vectors,
                }
                for one in self.twins
            ],
            "data": self.data,
            "held_out": self.held_out,
            "headline": {"judge": MINED, "queries": ABNORMAL},
            "wins": {other: found["wins"] for other, found in self.tallies().items()},
            "of": len(self.tables[MINED, ABNORMAL]),
            "judges": sources,
        }


def contest(
    args: argparse.Namespace, models: Sequence[Model], kinds: Sequence[ImageKind], start_bar: StartBar
) -> Contest:
    """Run the comparison. Raises BadInput when the models share no kind of image, or too few studies are abnormal."""
    names = tuple(model.name for model in models)
    tables: dict[tuple[str, str], tuple[MetricRow, ...]] = {}
    data: dict[str, Any] = {}
    by_chance: set[str] = set()
    alike: list[Twins] = []
    for given in evaluation_data(args, kinds, models, start_bar):
        exam, kind = given.exam, given.exam.kind
        regions = named(args.regions, exam) if args.regions else chosen(candidates(exam), kind)
        if not regions:
            raise BadInput(
                f"no region of these {kind} studies has the {LEAST_QUERIES} abnormal queries needed: use more "
                "patients (about 250 synthetic ones suffice), or name regions by --regions"
            )
        vectors = {
            model.name: given.vectors(model, start_bar(f"{kind} by {model.name}", len(exam)), regions)
            for model in models
        }
        pairs = needed(regions)
        found = examine(exam, vectors, pairs, seed=args.seed, progress=start_bar(f"{kind} judged", len(pairs)))
        by_chance |= found.by_chance
        for source in exam.sources:
            for queries in QUERIES:
                if source.abnormal(regions[0]) is None and queries == ABNORMAL:
                    raise BadInput("this data set does not say which studies are abnormal")
                table = rows(found, kind, regions, names, source=source.name, queries=queries)
                place = source.name, queries
                tables[place] = (*tables.get(place, ()), *table)
        of_kind = [row for table in tables.values() for row in table if row.kind is kind]
        alike += twins(of_kind, names, partial(_same_vectors, vectors))
        data[kind.value] = {
            "images": len(exam),
            "patients": len(np.unique(exam.patients)),
            "reports": len(exam.texts),
            "regions": {key: region_name(key) for key in regions},
        }
    return Contest(
        names=names,
        data=data,
        tables=tables,
        by_chance=tuple(name for name in names if name in by_chance),
        held_out=args.held_out,
        twins=tuple(alike),
    )


def _same_vectors(vectors: Mapping[str, Embeddings | None], one: str, other: str, key: str) -> bool:
    mine, theirs = vectors[one], vectors[other]
    return mine is not None and theirs is not None and np.array_equal(mine.of(key), theirs.of(key))
