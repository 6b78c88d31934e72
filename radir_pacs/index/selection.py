"""Which labels a search may return: the caller's rights and filters, applied inside the search (P7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from radir_pacs.index.label_set import NO_LABELS, contains
from radir_pacs.types import I64

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Allowed:
    """Admits the label L where ``mask[L - base]``, and no label outside the mask. It must not change afterwards."""

    base: int
    mask: Mask

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.mask.ndim != 1:
            raise ValueError("labels to choose among are a mask: bool [span]")

    @classmethod
    def of(cls, labels: I64) -> Self:
        """Admits exactly these labels, in any order. The mask is as long as they lie apart."""
        if not len(labels):
            return cls(0, np.zeros(0, np.bool_))
        base = int(labels.min())
        mask = np.zeros(int(labels.max()) - base + 1, np.bool_)
        mask[labels - base] = True
        return cls(base, mask)

    def has(self, labels: I64) -> Mask:
        """Which of ``labels`` are admitted; bool, shaped as ``labels``."""
        if not len(self.mask):
            return np.zeros(len(labels), np.bool_)
        places = labels - self.base
        inside = (places >= 0) & (places < len(self.mask))
        if inside.all():
            return self.mask[places]
        return inside & self.mask[np.where(inside, places, 0)]

    def window(self, base: int, span: int) -> Mask:
        """The mask of the labels from ``base`` on, bool [span]: to read only, it may be part of ``mask``."""
        start, stop = base - self.base, base - self.base + span
        if start >= 0 and stop <= len(self.mask):
            return self.mask[start:stop]
        window = np.zeros(span, np.bool_)
        first, last = max(start, 0), min(stop, len(self.mask))
        if first < last:
            window[first - start : last - start] = self.mask[first:last]
        return window


@dataclass(frozen=True, eq=False)
class Selection:
    """``allowed`` (None: all) without ``barred``, which are ascending int64 and few."""

    allowed: Allowed | None = None
    barred: I64 = field(default_factory=lambda: NO_LABELS)

    def __post_init__(self) -> None:
        barred = self.barred
        if barred.dtype != np.int64 or barred.ndim != 1 or np.any(barred[1:] <= barred[:-1]):
            raise ValueError("labels to leave out are ascending int64")

    def lets_through(self, labels: I64) -> Mask:
        """Which of ``labels`` may be returned; bool, shaped as ``labels``."""
        through = np.ones(len(labels), np.bool_) if self.allowed is None else self.allowed.has(labels)
        if len(self.barred):
            through &= ~contains(self.barred, labels)
        return through


EVERYTHING = Selection()
