"""A partition being searched: a generation, an exact tail of what came since, and what was deleted since.

One thread changes a partition (`apply`, `swap`); any number search it meanwhile. Each change makes a new frozen
snapshot and puts it in place at once, so a search sees one state from its beginning to its end. A change costs what
changes, whatever the partition holds, and nothing where all of it is known already.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from radir_pacs.index.builder import UNIT_TOLERANCE, check_vectors
from radir_pacs.index.label_set import NO_LABELS
from radir_pacs.index.part import Holding
from radir_pacs.index.selection import EVERYTHING, Selection
from radir_pacs.index.snapshot import Snapshot, search_snapshot
from radir_pacs.index.tail import Tail
from radir_pacs.types import F32, I64


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Answers, best first; ties by ascending label. ``scores`` are cosines, float32 [n] beside ``labels`` int64 [n].

    exact: no vector was passed over. generation: the name that answered, None when the partition is all tail.
    """

    labels: I64
    scores: F32
    exact: bool
    generation: str | None


class Partition:
    """The searchable vectors of one region under one model. Labels are encoding ids of the catalogue."""

    def __init__(self, *, model_id: str, region: str, dim: int, generation: Holding | None = None) -> None:
        self.model_id, self.region, self.dim = model_id, region, dim
        self._changing = threading.Lock()
        self._snapshot = Snapshot(tail=Tail.empty(dim))
        if generation is not None:
            self.swap(generation)

    @property
    def generation(self) -> str | None:
        """The name of the generation that answers now."""
        generation = self._snapshot.generation
        return generation.name if generation else None

    @property
    def count(self) -> int:
        """How many labels can be returned now."""
        return len(self._snapshot)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the partition takes once every page of its files was read."""
        return self._snapshot.nbytes

    def candidates(self, selection: Selection = EVERYTHING) -> int:
        """How many labels a search under ``selection`` chooses among now."""
        snapshot = self._snapshot
        return snapshot.tail.candidates(selection) + sum(part.candidates(selection) for part in snapshot.parts)

    def search(self, query: F32, k: int, selection: Selection = EVERYTHING) -> Hits:
        """The ``k`` live vectors most like ``query`` (float32 [dim], unit) that ``selection`` lets through (P7).

        Fewer than ``k`` come back only when fewer are live and let through. Raises ValueError for a query that cannot
        be searched.
        """
        if query.shape != (self.dim,) or query.dtype != np.float32 or k < 1:
            raise ValueError(f"a query is one float32 vector of {self.dim}, and k is at least 1")
        if not abs(float(np.linalg.norm(query)) - 1) < UNIT_TOLERANCE:  # NaN compares false
            raise ValueError("a query must be finite and of unit length")
        snapshot = self._snapshot
        labels, scores, exact = search_snapshot(snapshot, query, k, selection)
        name = snapshot.generation.name if snapshot.generation else None
        return Hits(labels=labels, scores=scores, exact=exact, generation=name)

    def scores(self, query: F32, labels: I64) -> F32:
        """The cosine of ``query`` (as `search` takes it) with the vector of each label, NaN where it is not here."""
        return self._snapshot.scores(query, labels)

    def apply(self, *, labels: I64 = NO_LABELS, vectors: F32 | None = None, deleted: I64 = NO_LABELS) -> None:
        """Add ``vectors`` (float32 [n, dim], unit) under ascending ``labels``, drop ``deleted``: both at once.

        A label's vector never changes and a deleted label never returns, as the catalogue's encoding ids promise; so
        changes may be read twice or out of order. Raises ValueError, changing nothing, for vectors that cannot be
        searched.
        """
        if not len(labels) and not len(deleted):
            return
        if vectors is None:
            vectors = np.empty((0, self.dim), np.float32)
        check_vectors(labels, vectors)
        if vectors.shape[1] != self.dim:
            raise ValueError(f"vectors of this partition have {self.dim} numbers")
        deleted = np.asarray(deleted, np.int64)
        with self._changing:
            self._snapshot = self._snapshot.changed(labels, vectors, deleted)

    def swap(self, generation: Holding) -> None:
        """Answer from ``generation`` from now on. No search loses or regains a case by it.

        Deleted labels stay deleted though the generation was built before they were; what neither it nor the deleted
        hold stays in the tail. Raises ValueError for a generation of another partition.
        """
        if generation.place != (self.model_id, self.region, self.dim):
            raise ValueError("the generation belongs to another partition")
        with self._changing:
            self._snapshot = self._snapshot.swapped(generation)
