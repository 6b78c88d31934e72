"""Sets of labels that never change, and grow at the cost of what is added."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from radir_pacs.types import I64

NO_LABELS: I64 = np.empty(0, np.int64)
NO_LABELS.flags.writeable = False
_LEAST_RECENT = 1024
_RECENT_FRACTION = 1 / 8


def contains(ascending: I64, values: I64) -> npt.NDArray[np.bool_]:
    """Which of ``values`` are in ``ascending``; bool, shaped as ``values``."""
    if not len(ascending) or not len(values):
        return np.zeros(len(values), np.bool_)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[places] == values
    return found


def merged(ascending: I64, more: I64) -> I64:
    """``ascending`` and the labels of ``more``, none of which it holds, ascending."""
    if not len(more):
        return ascending
    together = np.concatenate([ascending, more])
    together.sort(kind="stable")  # fast where it is in order already
    return together


@dataclass(frozen=True, eq=False)
class LabelSet:
    """Two ascending arrays with nothing in common. Only the small one is copied when labels are added."""

    settled: I64 = field(default_factory=lambda: NO_LABELS)
    recent: I64 = field(default_factory=lambda: NO_LABELS)

    def __len__(self) -> int:
        return len(self.settled) + len(self.recent)

    @property
    def nbytes(self) -> int:
        return self.settled.nbytes + self.recent.nbytes

    def has(self, labels: I64) -> npt.NDArray[np.bool_]:
        """Which of ``labels`` are in the set; bool, shaped as ``labels``."""
        return contains(self.settled, labels) | contains(self.recent, labels)

    def plus(self, labels: I64) -> LabelSet:
        """The set with ``labels`` as well: in any order, each once, some perhaps in it already."""
        new = labels[~self.has(labels)]
        if not len(new):
            return self
        recent = merged(self.recent, np.sort(new))
        if len(recent) <= max(_LEAST_RECENT, _RECENT_FRACTION * len(self.settled)):
            return LabelSet(self.settled, recent)
        return LabelSet(merged(self.settled, recent), NO_LABELS)

    def among(self, ascending: I64) -> I64:
        """The labels of the set that stand in ``ascending``, ascending."""
        found = [part[contains(ascending, part)] for part in (self.settled, self.recent)]
        return merged(*found)
