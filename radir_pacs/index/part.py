"""What a snapshot is made of beside its tail: labels that stand in one place, and a search over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from radir_pacs.index.exact import best, cosines, cosines_of_rows, search_rows
from radir_pacs.index.graph import EF_SEARCH, Graph
from radir_pacs.index.label_set import NO_LABELS, LabelSet, contains, merged
from radir_pacs.index.segment import Rows, Segment
from radir_pacs.index.selection import Mask, Selection
from radir_pacs.types import F32, I64

ROWS_PER_CANDIDATE = 40
"""How many rows exact search scores in the time the graph finds one candidate (benchmarks/speed/index_search.py). It
decides every choice between the two: whole partitions, filters of any width, and when to stop fetching more."""

_FETCH_MARGIN = 3.0  # times what a filter's width asks for: the graph finds the last of what it returns less surely

_FEW_HIDDEN = 64
"""So many cases are looked for beside the answers, and left out: to hide them by a mask reads the whole segment."""

VectorsAt = Callable[[Rows], tuple[I64, F32]]
"""Labels and vectors of some rows; a row whose case is gone is missing."""


class Part(Protocol):
    """Frozen; `without` makes another one."""

    def __len__(self) -> int:
        """How many labels can be returned."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory once every page of its files was read."""

    def has(self, labels: I64) -> Mask:
        """Which of ``labels`` stand here, returned any more or not; bool, shaped as ``labels``."""

    def without(self, deleted: I64) -> Part:
        """Without ``deleted`` (ascending), some of which may be there."""

    def candidates(self, selection: Selection) -> int:
        """How many a search under ``selection`` chooses among."""

    def scores(self, query: F32, labels: I64) -> F32:
        """Cosines by label, NaN for labels that are not here."""

    def search(self, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
        """(labels, scores, exact) of the ``k`` best that ``selection`` lets through."""

    def held(self) -> tuple[I64, VectorsAt]:
        """All labels that stand here, ascending, and a way to the vectors behind them."""


class Holding(Protocol):
    """A generation: a complete, checked build, which does not change."""

    @property
    def name(self) -> str:
        """As the catalogue knows it."""

    @property
    def place(self) -> tuple[str, str, int]:
        """Model id, region key, length of the vectors."""

    @property
    def deleted(self) -> I64:
        """Labels that were gone when it was built, ascending."""

    def parts(self, deleted: LabelSet) -> tuple[Part, ...]:
        """Its parts, without ``deleted``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentPart:
    """A segment and those of its labels that are no longer returned, ascending."""

    segment: Segment
    dead: I64 = field(default_factory=lambda: NO_LABELS)

    def __len__(self) -> int:
        return len(self.segment) - len(self.dead)

    @property
    def nbytes(self) -> int:
        return self.segment.nbytes + self.dead.nbytes

    def has(self, labels: I64) -> Mask:
        return self.segment.has(labels)

    def without(self, deleted: I64) -> SegmentPart:
        gone = deleted[self.segment.has(deleted)]
        gone = gone[~contains(self.dead, gone)]
        return replace(self, dead=merged(self.dead, gone)) if len(gone) else self

    def live(self) -> tuple[I64, F32]:
        """(labels, vectors) of what can be returned."""
        labels, vectors = self.segment.labels, self.segment.vectors
        if not len(self.dead):
            return labels, vectors
        stays = ~contains(self.dead, labels)
        return labels[stays], vectors[stays]

    def held(self) -> tuple[I64, VectorsAt]:
        segment = self.segment
        return segment.labels, lambda rows: (segment.labels[rows], segment.vectors[rows])

    def candidates(self, selection: Selection) -> int:
        if selection.allowed is None:
            return len(self) - len(self._barred(selection))
        mask = self.mask(selection)
        assert mask is not None
        return int(np.count_nonzero(mask))

    def mask(self, selection: Selection) -> Mask | None:
        """What ``selection`` lets through, as `Segment.mask` has it."""
        return self.segment.mask(selection.allowed, self._hidden(selection))

    def _hidden(self, selection: Selection) -> I64:
        """Labels that no answer may hold: of cases that are gone, and of those that the question bars."""
        return merged(self.dead, self._barred(selection))

    def _barred(self, selection: Selection) -> I64:
        barred = selection.barred[self.segment.has(selection.barred)]
        return barred[~contains(self.dead, barred)]

    def scores(self, query: F32, labels: I64) -> F32:
        return scores_at(self.segment.labels, self.segment.vectors, query, labels)

    def search(self, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
        hidden = self._hidden(selection)
        if selection.allowed is None and len(hidden) <= _FEW_HIDDEN:
            labels, scores, exact = _search_segment(self.segment, query, k + len(hidden), None)
            stays = ~contains(hidden, labels)
            return labels[stays][:k], scores[stays][:k], exact
        return _search_segment(self.segment, query, k, self.segment.mask(selection.allowed, hidden))


def scores_at(held: I64, vectors: F32, query: F32, labels: I64, order: Rows | None = None) -> F32:
    """Cosines by label, NaN for labels not in ``held``; ``order``: its rows by ascending label (None: as they are)."""
    scores = np.full(len(labels), np.nan, np.float32)
    if len(held):
        places = np.minimum(np.searchsorted(held, labels, sorter=order), len(held) - 1)
        rows = places if order is None else order[places]
        here = held[rows] == labels
        scores[here] = cosines_of_rows(vectors, rows[here], query)
    return scores


def _search_segment(segment: Segment, query: F32, k: int, mask: Mask | None) -> tuple[I64, F32, bool]:
    """(labels, scores, exact) of the ``k`` best that the mask lets through."""
    if segment.graph is not None:
        found = _search_graph(segment, segment.graph, query, k, mask)
        if found is not None:
            return *found, False
    rows = None if mask is None else segment.rows(mask)
    return *search_rows(segment.vectors, segment.labels, query, k, rows), True


def _search_graph(segment: Segment, graph: Graph, query: F32, k: int, mask: Mask | None) -> tuple[I64, F32] | None:
    """``k`` answers through the graph, or None where exact search gives them sooner or the graph cannot."""
    to_scan = len(segment) if mask is None else int(np.count_nonzero(mask))
    if not to_scan:
        return None
    fetch = max(EF_SEARCH, math.ceil(_FETCH_MARGIN * k * len(segment) / to_scan))
    spent = 0  # candidates fetched so far
    while (spent := spent + fetch) * ROWS_PER_CANDIDATE < to_scan:
        rows = graph.search(query, fetch)
        if mask is not None:
            rows = rows[mask[segment.places(rows)]]
        if len(rows) >= k:
            return best(segment.labels[rows], cosines(segment.vectors[rows], query), k)
        fetch *= 2
    return None
