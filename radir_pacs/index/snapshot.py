"""One frozen state of a partition, and the search over it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from radir_pacs.index.exact import best
from radir_pacs.index.label_set import LabelSet
from radir_pacs.index.part import Holding, Part, scores_at
from radir_pacs.index.selection import Selection
from radir_pacs.index.tail import Tail
from radir_pacs.types import F32, I64


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """What answers: ``parts``, those of the generation, and the tail; no label stands in two of them.

    deleted: every label deleted in this partition's life, so that a generation built earlier, or an addition read
    twice, cannot bring it back; 8 bytes each.
    """

    tail: Tail
    generation: Holding | None = None
    parts: tuple[Part, ...] = ()
    deleted: LabelSet = field(default_factory=LabelSet)

    def __len__(self) -> int:
        """How many labels can be returned."""
        return sum(map(len, self.parts)) + len(self.tail)

    @property
    def nbytes(self) -> int:
        """Bytes in memory once every page of the files was read."""
        return sum(part.nbytes for part in self.parts) + self.tail.nbytes + self.deleted.nbytes

    def scores(self, query: F32, labels: I64) -> F32:
        """Cosines by label, NaN for labels that no part holds; those that are not returned any more may have theirs."""
        scores = scores_at(*self.tail.rows(), query, labels, self.tail.order)
        for part in self.parts:
            here = part.scores(query, labels)
            scores = np.where(np.isnan(here), scores, here)
        return scores

    def changed(self, labels: I64, vectors: F32, deleted: I64) -> Snapshot:
        """After ``labels`` were added and ``deleted`` were deleted. What is known already is ignored.

        ``labels`` and ``vectors`` may stay in use: the caller leaves them as they are.
        """
        deleted = np.unique(deleted[~self.deleted.has(deleted)])
        all_deleted = self.deleted.plus(deleted)
        known = all_deleted.has(labels) | self.tail.known.has(labels)
        for part in self.parts:
            known |= part.has(labels)
        if known.all() and not len(deleted):
            return self
        if known.any():
            labels, vectors = labels[~known], vectors[~known]
        return replace(
            self,
            tail=self.tail.without(deleted).plus(labels, vectors),
            parts=tuple(part.without(deleted) for part in self.parts),
            deleted=all_deleted,
        )

    def swapped(self, generation: Holding) -> Snapshot:
        """With ``generation`` in place of the current one; what it lacks stays in the tail."""
        deleted = self.deleted.plus(generation.deleted)
        parts = generation.parts(deleted)
        sources = [self.tail.held(), *(part.held() for part in self.parts)]
        tail = Tail.empty(self.tail.room_vectors.shape[1])
        for held, vectors_at in sources:
            lacking = ~deleted.has(held)
            for part in parts:
                lacking &= ~part.has(held)
            rows = np.flatnonzero(lacking)
            if len(rows):
                tail = tail.plus(*vectors_at(rows))
        return Snapshot(tail=tail, generation=generation, parts=parts, deleted=deleted)


def search_snapshot(snapshot: Snapshot, query: F32, k: int, selection: Selection) -> tuple[I64, F32, bool]:
    """(labels, scores, exact) of the ``k`` best that ``selection`` lets through, from all parts and the tail."""
    found = [snapshot.tail.search(query, k, selection)]
    exact = True
    for part in snapshot.parts:
        labels, scores, exactly = part.search(query, k, selection)
        found.append((labels, scores))
        exact &= exactly
    labels, scores = map(np.concatenate, zip(*found, strict=True))
    return *best(labels, scores, k), exact
