"""The tail: vectors that no segment holds yet, searched exactly. It grows at the cost of what is added."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from radir_pacs.index.exact import search_rows
from radir_pacs.index.label_set import NO_LABELS, LabelSet, contains, merged
from radir_pacs.index.part import VectorsAt
from radir_pacs.index.selection import Selection
from radir_pacs.types import F32, I64

_LEAST_ROOM = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Tail:
    """labels: int64 [n], in the order they came; vectors: float32 [n, dim], both the beginning of arrays with room to
    spare, which later tails go on filling. known: every label there; dead: those that are not returned, ascending.
    """

    room_labels: I64
    room_vectors: F32
    count: int = 0
    known: LabelSet = field(default_factory=LabelSet)
    dead: I64 = field(default_factory=lambda: NO_LABELS)

    @classmethod
    def empty(cls, dim: int) -> Tail:
        return cls(room_labels=NO_LABELS, room_vectors=np.empty((0, dim), np.float32))

    def __len__(self) -> int:
        """How many can be returned."""
        return self.count - len(self.dead)

    @property
    def nbytes(self) -> int:
        return self.room_labels.nbytes + self.room_vectors.nbytes + self.known.nbytes + self.dead.nbytes

    def plus(self, labels: I64, vectors: F32) -> Tail:
        """With ``vectors`` under ``labels``, none of which it knows. Only the newest tail may be added to.

        An empty tail keeps the arrays themselves, which may be gigabytes: nobody changes them any more.
        """
        count = self.count + len(labels)
        if not len(labels):
            return self
        if not self.count:
            known = self.known.plus(labels)
            return Tail(room_labels=labels, room_vectors=vectors, count=count, known=known, dead=self.dead)
        room_labels, room_vectors = self.room_labels, self.room_vectors
        if count > len(room_labels):
            room = max(_LEAST_ROOM, count + count // 2)
            room_labels, room_vectors = np.empty(room, np.int64), np.empty((room, vectors.shape[1]), np.float32)
            room_labels[: self.count] = self.room_labels[: self.count]
            room_vectors[: self.count] = self.room_vectors[: self.count]
        room_labels[self.count : count], room_vectors[self.count : count] = labels, vectors  # beyond every reader's end
        return Tail(
            room_labels=room_labels,
            room_vectors=room_vectors,
            count=count,
            known=self.known.plus(labels),
            dead=self.dead,
        )

    def without(self, deleted: I64) -> Tail:
        """Without ``deleted`` (ascending), some of which may be there."""
        gone = deleted[self.known.has(deleted) & ~contains(self.dead, deleted)]
        if not len(gone):
            return self
        dead = merged(self.dead, gone)
        if 2 * len(dead) > self.count:
            labels, vectors = Tail._live(self, dead)
            return Tail.empty(vectors.shape[1]).plus(labels, vectors)
        return Tail(
            room_labels=self.room_labels, room_vectors=self.room_vectors, count=self.count, known=self.known, dead=dead
        )

    def rows(self) -> tuple[I64, F32]:
        """(labels, vectors) of all that it holds, in the order it came."""
        return self.room_labels[: self.count], self.room_vectors[: self.count]

    @functools.cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """The rows by ascending label."""
        return np.argsort(self.room_labels[: self.count])

    def live(self) -> tuple[I64, F32]:
        """(labels, vectors) of what can be returned, in the order it came."""
        return Tail._live(self, self.dead)

    def held(self) -> tuple[I64, VectorsAt]:
        """What can be returned, as `Part.held` gives it, in the order it came."""
        labels, vectors = self.live()

        def vectors_at(rows: npt.NDArray[np.intp]) -> tuple[I64, F32]:
            return labels[rows], vectors[rows]

        return labels, vectors_at

    @staticmethod
    def _live(tail: Tail, dead: I64) -> tuple[I64, F32]:
        labels, vectors = tail.room_labels[: tail.count], tail.room_vectors[: tail.count]
        if not len(dead):
            return labels, vectors
        stays = ~contains(dead, labels)
        return labels[stays], vectors[stays]

    def candidates(self, selection: Selection) -> int:
        """How many a search under ``selection`` chooses among."""
        if not self.count:
            return 0
        if selection.allowed is None:
            barred = selection.barred
            return len(self) - int(np.count_nonzero(self.known.has(barred) & ~contains(self.dead, barred)))
        through = selection.lets_through(self.room_labels[: self.count])
        return int(np.count_nonzero(through)) - int(np.count_nonzero(selection.lets_through(self.dead)))

    def search(self, query: F32, k: int, selection: Selection) -> tuple[I64, F32]:
        """The ``k`` best that ``selection`` lets through, and their cosines."""
        if not self.count:
            return NO_LABELS, np.empty(0, np.float32)
        labels, vectors = self.room_labels[: self.count], self.room_vectors[: self.count]
        rows = None
        if selection.allowed is not None or len(selection.barred) or len(self.dead):
            rows = np.flatnonzero(selection.lets_through(labels) & ~contains(self.dead, labels))
        return search_rows(vectors, labels, query, k, rows)
