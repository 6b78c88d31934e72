"""One model judged in every direction and region: figures with random line, upper bound, lift and interval."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radir_pacs.anatomy import ROOT
from radir_pacs.types import ImageKind

from .collapse import COLLAPSED, mean_cosine
from .compare import Figure
from .embeddings import Embeddings
from .evaluation_data import StartBar, evaluation_data
from .exam import DIRECTIONS, IMAGE_TO_IMAGE, Exam, region_name
from .examine import QUERIES, Cell, CellKey, Results, examine
from .measures import KS, MEASURES
from .models import Model
from .regions import candidates, chosen, judgeable, named

FORMAT = 1
NOTE = "Decision support, not diagnosis."
MEAN = "mean"
WHOLE_KS, REGION_KS = (1, 5, 10, 20, 50, 100), (3, 5, 10, 20, 50, 100)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A figure with its random line and upper bound. ``queries``: how many it is the mean of. ``lift``: the ratio to
    the random line."""

    figure: Figure
    random: float | None
    oracle: float | None
    queries: int

    @property
    def lift(self) -> float | None:
        return round(self.figure.value / self.random, 3) if self.figure.value is not None and self.random else None

    def as_json(self) -> dict[str, Any]:
        interval = self.figure.interval_95
        return {
            "value": self.figure.value,
            "interval_95": interval and list(interval),
            "random": self.random,
            "best": self.oracle,
            "lift": self.lift,
            "queries": self.queries,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One kind of image. ``judged``: the regions in the mean; ``shown``: a selection of distinct ones, for the
    pictures; ``cosines``: the mean cosine of two studies, by region. ``vectors`` is None for a random order."""

    kind: ImageKind
    exam: Exam
    results: Results
    judged: tuple[str, ...]
    shown: tuple[str, ...]
    cosines: Mapping[str, float]
    vectors: Embeddings | None
    model: str
    model_id: str | None  # of a bundle

    @property
    def collapsed(self) -> bool:
        return bool(self.cosines) and float(np.mean(list(self.cosines.values()))) > COLLAPSED

    @property
    def patients(self) -> int:
        return len(np.unique(self.exam.patients))

    @property
    def has_text_tower(self) -> bool:
        return self.model not in self.results.by_chance

    def cell(self, source: str, queries: str, direction: str, region: str) -> Cell | None:
        """The figures of a region, ROOT or MEAN; None where there are none, and for the mean of fewer than two
        regions."""
        if region == MEAN:
            asked = [key for key in self.judged if CellKey(source, queries, direction, key) in self.results.cells]
            return self.results.mean(source, queries, direction, asked) if len(asked) > 1 else None
        return self.results.cells.get(CellKey(source, queries, direction, region))

    def scored(self, cell: Cell, measure: str, k: int) -> Scored:
        at = MEASURES.index(measure), KS.index(k)
        resampled = cell.models[self.model]
        return Scored(
            figure=Figure.of(resampled.mean[at], resampled.draws[:, *at]),
            random=_rounded(cell.random.mean[at]),
            oracle=_rounded(cell.oracle[at]),
            queries=int(resampled.queries[at]),
        )

    def regions(self, direction: str) -> tuple[str, ...]:
        """The regions with figures, the whole image first."""
        asked = {place.region for place in self.results.cells if place.direction == direction}
        return tuple(key for key in (ROOT, *(key for key in self.exam.keys if key != ROOT)) if key in asked)

    def sets(self) -> Iterator[tuple[str, str]]:
        """The pairs (judge, queries) that have figures, the headline first."""
        there = {(place.source, place.queries) for place in self.results.cells}
        for queries in reversed(QUERIES):
            yield from ((source.name, queries) for source in self.exam.sources if (source.name, queries) in there)

    def as_json(self) -> dict[str, Any]:
        return {
            "model_id": self.model_id,
            "images": len(self.exam),
            "patients": self.patients,
            "reports": len(self.exam.texts),
            "regions": {key: region_name(key) for key in self.exam.keys},
            "judged_regions": list(self.judged),
            "text_tower": self.has_text_tower,
            "mean_cosine": {key: _rounded(value) for key, value in self.cosines.items()},
            "collapsed": self.collapsed,
            "collapsed_regions": [key for key, value in self.cosines.items() if value > COLLAPSED],
            "judges": self._figures(),
        }

    def _figures(self) -> dict[str, Any]:
        """judge > queries > direction > region > measure > k."""
        found: dict[str, Any] = {}
        for source, queries in self.sets():
            by_direction = found.setdefault(source, {}).setdefault(queries, {})
            for direction in DIRECTIONS:
                for region in (*self.regions(direction), MEAN):
                    cell = self.cell(source, queries, direction, region)
                    if cell is not None:
                        by_direction.setdefault(direction, {})[region] = {
                            measure: {
                                str(k): self.scored(cell, measure, k).as_json()
                                for k in (WHOLE_KS if region == ROOT else REGION_KS)
                            }
                            for measure in MEASURES
                        }
        return found


def evaluations(
    args: argparse.Namespace, model: Model, kinds: Sequence[ImageKind], start_bar: StartBar
) -> Iterator[Evaluation]:
    """Every kind that the model and the data have. Between images and reports, only judgeable regions are evaluated.

    Raises BadInput, OSError.
    """
    for given in evaluation_data(args, kinds, [model], start_bar):
        exam, kind = given.exam, given.exam.kind
        if args.regions:
            judged = shown = named(args.regions, exam)
        else:
            found = candidates(exam)
            judged, shown = tuple(one.key for one in judgeable(found)), chosen(found, kind)
        vectors = given.vectors(model, start_bar(f"{kind} by {model.name}", len(exam)))
        asked = [(IMAGE_TO_IMAGE, key) for key in exam.keys]
        asked += [(direction, key) for direction in DIRECTIONS[1:] for key in (ROOT, *judged)]
        results = examine(
            exam,
            {model.name: vectors},
            asked,
            seed=args.seed,
            progress=start_bar(f"{kind} judged", len(asked)),
        )
        known = {} if vectors is None else {ROOT: vectors.image, **vectors.regions}
        yield Evaluation(
            kind=kind,
            exam=exam,
            results=results,
            judged=judged,
            shown=shown,
            cosines={key: mean_cosine(rows[rows.any(axis=1)]) for key, rows in known.items()},
            vectors=vectors,
            model=model.name,
            model_id=model.bundles[kind].model_id if kind in model.bundles else None,
        )


def _rounded(value: float | np.floating[Any]) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
