"""Which labels a search may return: the caller's rights and filters, applied inside the search (P7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radir_pacs.index.exact import contains
from radir_pacs.types import I64


@dataclass(frozen=True, kw_only=True)
class Selection:
    """``allowed`` (None: all) without ``barred``; both strictly ascending int64."""

    allowed: I64 | None
    barred: I64

    def __post_init__(self) -> None:
        for labels in (self.allowed, self.barred):
            if labels is None:
                continue
            if labels.dtype != np.int64 or labels.ndim != 1 or np.any(labels[1:] <= labels[:-1]):
                raise ValueError("labels to filter by are ascending int64")

    def without(self, hidden: I64) -> Selection:
        """The same selection with ``hidden`` (ascending) barred as well."""
        if not len(hidden):
            return self
        barred = np.union1d(self.barred, hidden) if len(self.barred) else hidden
        return Selection(allowed=self.allowed, barred=barred)

    def lets_through(self, labels: I64) -> npt.NDArray[np.bool_]:
        """Which of ``labels`` may be returned; bool, shaped as ``labels``."""
        through = np.ones(len(labels), np.bool_) if self.allowed is None else contains(self.allowed, labels)
        if len(self.barred):
            through &= ~contains(self.barred, labels)
        return through

    def rows(self, labels: I64) -> npt.NDArray[np.intp] | None:
        """Row numbers in ascending ``labels`` that may be returned; None when that is every row."""
        if self.allowed is None and not len(self.barred):
            return None
        if self.allowed is None or len(self.allowed) > len(labels):
            return np.flatnonzero(self.lets_through(labels))
        wanted = self.allowed[contains(labels, self.allowed)]  # few allowed: look them up, not every row
        if len(self.barred):
            wanted = wanted[~contains(self.barred, wanted)]
        return np.searchsorted(labels, wanted)

    def at_most(self, count: int) -> int:
        """Upper bound on how many of ``count`` labels may be let through; cheap."""
        return count if self.allowed is None else min(count, len(self.allowed))
