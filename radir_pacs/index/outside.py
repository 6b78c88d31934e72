"""A generation that an outside engine holds: the engine names candidates, the catalogue's vectors score them.

This process knows which labels the generation holds, a byte for each between the first and the last: so that candidates
are counted as in our own files, filters are masks here as well, and what an engine names beyond is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from radir_pacs import metrics
from radir_pacs.errors import EngineAway, EngineEmptied, IndexRefused
from radir_pacs.index.engine import MOST_CANDIDATES, Engine
from radir_pacs.index.exact import best, cosines
from radir_pacs.index.label_set import NO_LABELS, LabelSet, contains, merged
from radir_pacs.index.part import Part, VectorsAt
from radir_pacs.index.segment import Rows
from radir_pacs.index.selection import Allowed, Mask, Selection
from radir_pacs.types import F32, I64, PartitionKey

ROWS_PER_CANDIDATE = 1.5
"""How many vectors the catalogue sends in the time an engine names one candidate (benchmarks/experiments/
vector_engines.py): it decides between the two, as in `index.part`."""

_LEAST_FETCH = 64
_FETCH_MARGIN = 3.0  # times what a filter's width asks for
_DEEPER = 4  # times as many, where too few of them may be returned
_SPARE = 32  # candidates scored beyond k: an engine may round vectors, so that its order is not quite ours
_CHUNK = 8_192  # vectors that the catalogue sends at a time

VectorsOf = Callable[[I64], tuple[I64, F32]]
"""The catalogue's vectors of some ascending labels, of one place: (labels, vectors), without those that are gone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsideGeneration:
    """``held``: the labels that the engine has of it."""

    name: str
    place: tuple[str, str, int]
    engine: Engine
    vectors_of: VectorsOf
    held: Allowed
    count: int

    @property
    def deleted(self) -> I64:
        return NO_LABELS

    def parts(self, deleted: LabelSet) -> tuple[Part, ...]:
        part = OutsidePart(generation=self)
        return (part.without(merged(deleted.settled, deleted.recent)),)


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsidePart:
    """What of a generation may be returned; ``dead``: its labels that are not, ascending."""

    generation: OutsideGeneration
    dead: I64 = field(default_factory=lambda: NO_LABELS)

    def __len__(self) -> int:
        return self.generation.count - len(self.dead)

    @property
    def nbytes(self) -> int:
        return self.generation.held.mask.nbytes + self.dead.nbytes

    def has(self, labels: I64) -> Mask:
        return self.generation.held.has(labels)

    def without(self, deleted: I64) -> OutsidePart:
        gone = deleted[self.has(deleted)]
        gone = gone[~contains(self.dead, gone)]
        return replace(self, dead=merged(self.dead, gone)) if len(gone) else self

    def candidates(self, selection: Selection) -> int:
        if selection.allowed is not None:
            return int(np.count_nonzero(self._through(selection)))
        barred = selection.barred[self.has(selection.barred)]
        return len(self) - int(np.count_nonzero(~contains(self.dead, barred)))

    def held(self) -> tuple[I64, VectorsAt]:
        labels = _labels_of(self.generation.held)

        def vectors_at(rows: Rows) -> tuple[I64, F32]:
            return self.generation.vectors_of(labels[rows])

        return labels, vectors_at

    def scores(self, query: F32, labels: I64) -> F32:
        scores = np.full(len(labels), np.nan, np.float32)
        here = self.has(labels)
        if not here.any():
            return scores
        found, vectors = self.generation.vectors_of(np.unique(labels[here]))
        if len(found):
            places = np.minimum(np.searchsorted(found, labels), len(found) - 1)
            rows = np.flatnonzero(here & (found[places] == labels))
            scores[rows] = cosines(vectors, query)[places[rows]]
        return scores

    def search(self, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
        """By the engine, or exactly by the catalogue's vectors where few may be returned or the engine names too few.

        Raises EngineAway, EngineEmptied.
        """
        to_scan = self.candidates(selection)
        if not to_scan:
            return NO_LABELS, np.empty(0, np.float32), True
        model_id, region, _ = self.generation.place
        fetch = max(_LEAST_FETCH, k + _SPARE, math.ceil(_FETCH_MARGIN * k * len(self) / to_scan))
        while fetch <= MOST_CANDIDATES and fetch * ROWS_PER_CANDIDATE < to_scan:
            named = _nearest(self.generation.engine, (model_id, region), query, fetch)
            through = named[self._lets_through(named, selection)]
            if len(through) >= k:
                labels, vectors = self.generation.vectors_of(np.unique(through[: k + _SPARE]))
                if len(labels) >= k:  # else some went meanwhile
                    return *best(labels, cosines(vectors, query), k), False
            if len(named) < fetch:
                break  # there are no more that it can reach
            fetch *= _DEEPER
        return *self._exactly(query, k, selection), True

    def _exactly(self, query: F32, k: int, selection: Selection) -> tuple[I64, F32]:
        labels = np.flatnonzero(self._through(selection)) + self.generation.held.base
        found, scores = NO_LABELS, np.empty(0, np.float32)
        for start in range(0, len(labels), _CHUNK):
            more, vectors = self.generation.vectors_of(labels[start : start + _CHUNK])
            found, scores = best(np.concatenate([found, more]), np.concatenate([scores, cosines(vectors, query)]), k)
        return found, scores

    def _lets_through(self, labels: I64, selection: Selection) -> Mask:
        return self.has(labels) & ~contains(self.dead, labels) & selection.lets_through(labels)

    def _through(self, selection: Selection) -> Mask:
        """What may be returned, by label less the first one's."""
        held = self.generation.held
        through = held.mask.copy()
        if selection.allowed is not None:
            through &= selection.allowed.window(held.base, len(through))
        for labels in (self.dead, selection.barred):
            places = labels - held.base
            through[places[(places >= 0) & (places < len(through))]] = False
        return through


def _nearest(engine: Engine, place: PartitionKey, query: F32, count: int) -> I64:
    """At least one label: of a place that was filled, an engine names nothing only if somebody emptied it."""
    try:
        with metrics.timed(metrics.ENGINE_SECONDS, engine.name):
            named = engine.nearest(place, query, count)
    except EngineAway:
        metrics.ENGINE_FAILURES.labels(engine.name).inc()
        raise
    except IndexRefused as refusal:
        raise EngineEmptied(str(refusal), place) from refusal
    if not len(named):
        raise EngineEmptied(f"{engine.name} has no vectors of the region", place)
    return named


def _labels_of(held: Allowed) -> I64:
    labels: I64 = np.flatnonzero(held.mask) + held.base
    return labels
