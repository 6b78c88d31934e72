"""One frozen state of a partition, and the search over it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from radir_pacs.index.exact import best, cosines, cosines_of_rows, search_rows
from radir_pacs.index.generation import Generation
from radir_pacs.index.graph import EF_SEARCH, Graph
from radir_pacs.index.label_set import NO_LABELS, LabelSet, contains, merged
from radir_pacs.index.segment import Segment
from radir_pacs.index.selection import Mask, Selection
from radir_pacs.index.tail import Tail
from radir_pacs.types import F32, I64

ROWS_PER_CANDIDATE = 40
"""How many rows exact search scores in the time the graph finds one candidate (benchmarks/speed/index_search.py). It
decides every choice between the two: whole partitions, filters of any width, and when to stop fetching more."""

_FETCH_MARGIN = 3.0  # times what a filter's width asks for: the graph finds the last of what it returns less surely


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A segment and those of its labels that are no longer returned, ascending."""

    segment: Segment
    dead: I64 = field(default_factory=lambda: NO_LABELS)

    def __len__(self) -> int:
        return len(self.segment) - len(self.dead)

    def without(self, deleted: I64) -> Part:
        """Without ``deleted`` (ascending), some of which may be there."""
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

    def candidates(self, selection: Selection) -> int:
        """How many a search under ``selection`` chooses among."""
        if selection.allowed is None:
            return len(self) - len(self._barred(selection))
        mask = self.mask(selection)
        assert mask is not None
        return int(np.count_nonzero(mask))

    def mask(self, selection: Selection) -> Mask | None:
        """What ``selection`` lets through, as `Segment.mask` has it."""
        return self.segment.mask(selection.allowed, merged(self.dead, self._barred(selection)))

    def _barred(self, selection: Selection) -> I64:
        barred = selection.barred[self.segment.has(selection.barred)]
        return barred[~contains(self.dead, barred)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """What answers: ``parts``, the segments of the generation, and the tail; no label stands in two of them.

    deleted: every label deleted in this partition's life, so that a generation built earlier, or an addition read
    twice, cannot bring it back; 8 bytes each.
    """

    tail: Tail
    generation: Generation | None = None
    parts: tuple[Part, ...] = ()
    deleted: LabelSet = field(default_factory=LabelSet)

    def __len__(self) -> int:
        """How many labels can be returned."""
        return sum(map(len, self.parts)) + len(self.tail)

    @property
    def nbytes(self) -> int:
        """Bytes in memory once every page of the files was read."""
        parts = sum(part.segment.nbytes + part.dead.nbytes for part in self.parts)
        return parts + self.tail.nbytes + self.deleted.nbytes

    def scores(self, query: F32, labels: I64) -> F32:
        """Cosines by label, NaN for labels that no part holds; those that are not returned any more have theirs."""
        scores = np.full(len(labels), np.nan, np.float32)
        for held, vectors, order in (
            *((part.segment.labels, part.segment.vectors, None) for part in self.parts),
            (*self.tail.rows(), self.tail.order),
        ):
            if len(held):
                places = np.minimum(np.searchsorted(held, labels, sorter=order), len(held) - 1)
                rows = places if order is None else order[places]
                here = held[rows] == labels
                scores[here] = cosines_of_rows(vectors, rows[here], query)
        return scores

    def changed(self, labels: I64, vectors: F32, deleted: I64) -> Snapshot:
        """After ``labels`` were added and ``deleted`` were deleted. What is known already is ignored."""
        deleted = np.unique(deleted[~self.deleted.has(deleted)])
        all_deleted = self.deleted.plus(deleted)
        known = all_deleted.has(labels) | self.tail.known.has(labels)
        for part in self.parts:
            known |= part.segment.has(labels)
        if known.all() and not len(deleted):
            return self
        return replace(
            self,
            tail=self.tail.without(deleted).plus(labels[~known], vectors[~known]),
            parts=tuple(part.without(deleted) for part in self.parts),
            deleted=all_deleted,
        )

    def swapped(self, generation: Generation) -> Snapshot:
        """With ``generation`` in place of the current one; what it lacks stays in the tail."""
        deleted = self.deleted.plus(generation.deleted)
        parts = tuple(Part(segment=segment, dead=deleted.among(segment.labels)) for segment in generation.segments)
        kept = {id(part.segment) for part in parts}
        sources = [self.tail.live()]
        sources += [(p.segment.labels, p.segment.vectors) for p in self.parts if id(p.segment) not in kept]
        tail = Tail.empty(self.tail.room_vectors.shape[1])
        for labels, vectors in sources:
            lacking = ~deleted.has(labels)
            for part in parts:
                lacking &= ~part.segment.has(labels)
            rows = np.flatnonzero(lacking)
            tail = tail.plus(labels[rows], vectors[rows])
        return Snapshot(tail=tail, generation=generation, parts=parts, deleted=deleted)


def search_snapshot(snapshot: Snapshot, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
    """(labels, scores, exact) of the ``k`` best that ``selection`` lets through, from all segments and the tail."""
    found = [snapshot.tail.search(query, k, selection)]
    exact = True
    for part in snapshot.parts:
        labels, scores, exactly = _search_part(part, query, k, selection)
        found.append((labels, scores))
        exact &= exactly
    labels, scores = map(np.concatenate, zip(*found, strict=True))
    return *best(labels, scores, k), exact


def _search_part(part: Part, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
    segment, mask = part.segment, part.mask(selection)
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
