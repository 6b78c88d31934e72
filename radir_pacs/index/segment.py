"""A segment: vectors that never change, with their graph; and what of it may be returned."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radir_pacs.index.graph import Graph
from radir_pacs.index.label_set import contains
from radir_pacs.index.selection import Allowed, Mask
from radir_pacs.types import F32, I64

_WIDEST = 8  # labels that lie further apart on average are looked up one by one instead of by a mask of their span
_FEW = 1 / 16  # of a segment's rows: fewer are found by bisection
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """Readers share it freely.

    labels: int64 [count], ascending. vectors: float32 [count, dim], unit rows. A *place* is where a mask of the segment
    says whether a row may be returned: the row itself where labels have no gaps, else how far its label is from the
    first.
    """

    labels: I64
    vectors: F32
    graph: Graph | None = None
    name: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes in memory once every page was read."""
        graph = self.graph.nbytes if self.graph else 0
        present = 0 if self._present is None else self._present.nbytes
        return self.labels.nbytes + self.vectors.nbytes + graph + present

    @functools.cached_property
    def _base(self) -> int:
        return int(self.labels[0]) if len(self.labels) else 0

    @functools.cached_property
    def _span(self) -> int:
        return int(self.labels[-1]) - self._base + 1 if len(self.labels) else 0

    @functools.cached_property
    def _by_row(self) -> bool:
        """Whether places are row numbers: labels without gaps, or too far apart for a mask of their span."""
        return self._span == len(self.labels) or self._span > _WIDEST * len(self.labels)

    @functools.cached_property
    def _present(self) -> Mask | None:
        """Which places hold a row; None where all do."""
        if self._by_row:
            return None
        present = np.zeros(self._span, np.bool_)
        present[self.labels - self._base] = True
        return present

    def has(self, labels: I64) -> Mask:
        """Which of ``labels`` the segment holds; bool, shaped as ``labels``."""
        if self._span == len(self.labels):
            return (labels >= self._base) & (labels < self._base + self._span)
        if self._present is None or len(labels) < 64:
            return contains(self.labels, labels)
        return Allowed(self._base, self._present).has(labels)

    def places(self, rows: Rows) -> Rows:
        return rows if self._by_row else self.labels[rows] - self._base

    def places_of(self, labels: I64) -> Rows:
        """The places of labels that the segment holds."""
        return np.searchsorted(self.labels, labels) if self._by_row else labels - self._base

    def mask(self, allowed: Allowed | None, hidden: I64) -> Mask | None:
        """What may be returned, by place: ``allowed`` (None: all) without the labels ``hidden``; None: every row.

        hidden: labels that the segment holds.
        """
        if allowed is None and not len(hidden):
            return None
        through: Mask
        if allowed is None:
            through = np.ones(len(self), np.bool_) if self._present is None else self._present.copy()
        elif self._present is not None:
            through = self._present & allowed.window(self._base, self._span)
        elif self._span == len(self):
            through = allowed.window(self._base, self._span).copy()
        else:
            through = allowed.has(self.labels)
        through[self.places_of(hidden)] = False
        return through

    def rows(self, mask: Mask) -> Rows:
        """The rows that a mask lets through, ascending."""
        places = np.flatnonzero(mask)
        if self._by_row:
            return places
        if len(places) < _FEW * len(self):
            return np.searchsorted(self.labels, places + self._base)
        return np.flatnonzero(mask[self.labels - self._base])
