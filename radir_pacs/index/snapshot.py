"""One frozen state of a partition, and the search over it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radir_pacs.index.exact import best, contains, cosines, search_rows
from radir_pacs.index.generation import Generation
from radir_pacs.index.hnsw import EF_SEARCH, Graph
from radir_pacs.index.selection import Selection
from radir_pacs.types import F32, I64

ROWS_PER_CANDIDATE = 40
"""How many rows exact search scores in the time the graph finds one candidate (benchmarks/speed/index_search.py). It
decides every choice between the two: whole partitions, filters of any width, and when to stop fetching more."""

_FETCH_MARGIN = 1.5  # fetched beyond what a filter's width asks for, so that one round is usually enough


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What answers: the generation without ``deleted``, and the tail, which has nothing in common with either.

    deleted: every label deleted in this partition's life, so that a generation built earlier, or an addition read
    twice, cannot bring it back; 8 bytes each. All labels ascend.
    """

    generation: Generation | None
    tail_labels: I64
    tail_vectors: F32
    deleted: I64

    def changed(self, labels: I64, vectors: F32, deleted: I64) -> Snapshot:
        """After ``labels`` were added and ``deleted`` were deleted. What is known already is ignored."""
        deleted = np.union1d(self.deleted, deleted) if len(deleted) else self.deleted
        known = contains(deleted, labels) | contains(self.tail_labels, labels)
        if self.generation is not None:
            known |= contains(self.generation.labels, labels)
        stays = ~contains(deleted, self.tail_labels)
        return _snapshot(
            self.generation,
            np.concatenate([self.tail_labels[stays], labels[~known]]),
            np.concatenate([self.tail_vectors[stays], vectors[~known]]),
            deleted,
        )

    def swapped(self, generation: Generation) -> Snapshot:
        """With ``generation`` in place of the current one; what it lacks stays in the tail."""
        stays = ~contains(generation.labels, self.tail_labels)
        tail_labels, tail_vectors = self.tail_labels[stays], self.tail_vectors[stays]
        if self.generation is not None:
            lacking = self._answering() & ~contains(generation.labels, self.generation.labels)
            tail_labels = np.concatenate([tail_labels, self.generation.labels[lacking]])
            tail_vectors = np.concatenate([tail_vectors, self.generation.vectors[lacking]])
        return _snapshot(generation, tail_labels, tail_vectors, self.deleted)

    @functools.cached_property
    def hidden(self) -> I64:
        """Labels of the generation that are no longer returned, ascending."""
        if self.generation is None:
            return self.deleted[:0]
        return self.deleted[contains(self.generation.labels, self.deleted)]

    @functools.cached_property
    def live_labels(self) -> I64:
        """Every label that can be returned, ascending."""
        if self.generation is None:
            return self.tail_labels
        return np.union1d(self.generation.labels[self._answering()], self.tail_labels)

    def _answering(self) -> npt.NDArray[np.bool_]:
        """Which rows of the generation can be returned."""
        if self.generation is None:
            return np.zeros(0, np.bool_)
        return ~contains(self.deleted, self.generation.labels)


def _snapshot(generation: Generation | None, tail_labels: I64, tail_vectors: F32, deleted: I64) -> Snapshot:
    order = np.argsort(tail_labels)
    return Snapshot(
        generation=generation, tail_labels=tail_labels[order], tail_vectors=tail_vectors[order], deleted=deleted
    )


def search_snapshot(snapshot: Snapshot, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
    """(labels, scores, exact) of the ``k`` best that ``selection`` lets through, from generation and tail together."""
    tail_rows = selection.rows(snapshot.tail_labels)
    labels, scores = search_rows(snapshot.tail_vectors, snapshot.tail_labels, query, k, tail_rows)
    if snapshot.generation is None:
        return labels, scores, True
    old_selection = selection.without(snapshot.hidden)
    old_labels, old_scores, exact = _search_generation(snapshot.generation, query, k, old_selection)
    if not len(labels):
        return old_labels, old_scores, exact
    labels, scores = best(np.concatenate([old_labels, labels]), np.concatenate([old_scores, scores]), k)
    return labels, scores, exact


def _search_generation(generation: Generation, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
    if generation.graph is not None:
        found = _search_graph(generation, generation.graph, query, k, selection)
        if found is not None:
            return *found, False
    rows = selection.rows(generation.labels)
    return *search_rows(generation.vectors, generation.labels, query, k, rows), True


def _search_graph(
    generation: Generation, graph: Graph, query: F32, k: int, selection: Selection
) -> tuple[I64, F32] | None:
    """``k`` answers through the graph, or None where exact search gives them sooner or the graph cannot."""
    count = len(generation.labels)
    to_scan = selection.at_most(count)
    if not to_scan:
        return None
    fetch = max(EF_SEARCH, math.ceil(_FETCH_MARGIN * k * count / to_scan))
    spent = 0  # candidates fetched so far
    while (spent := spent + fetch) * ROWS_PER_CANDIDATE < to_scan:
        rows = graph.search(query, fetch)
        rows = rows[selection.lets_through(generation.labels[rows])]
        if len(rows) >= k:
            return best(generation.labels[rows], cosines(generation.vectors[rows], query), k)
        fetch *= 2
    return None
