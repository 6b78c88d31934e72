"""Sources of the relevance of two studies: their reports, or the true findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..data.statements import Mask, Relevance, Said
from .measures import U8

MINED, TRUE = "mined", "true"  # from the text of the reports; from the known findings of synthetic patients


class RelevanceSource(Protocol):
    """Relevance among n studies, by their rows."""

    name: str

    def pairs(self, key: str) -> U8:
        """round(100 S) under region ``key``, [n, n]; UNDEFINED where one of the two has no statement about it."""

    def abnormal(self, key: str) -> Mask | None:
        """[n]: whether the region is abnormal; None where that is not known."""


class StatementRelevance:
    """Judges by statements, in the similarity of ``radir_pacs.reports``."""

    def __init__(self, name: str, said: Sequence[Said], keys: Sequence[str]) -> None:
        self.name = name
        self._relevance = Relevance.of(said, keys)
        self._number = {key: number for number, key in enumerate(keys)}
        self._rows = np.arange(len(said))

    def pairs(self, key: str) -> U8:
        return self._relevance.pairs(self._number[key], self._rows, self._rows)

    def abnormal(self, key: str) -> Mask:
        return self._relevance.abnormal[:, self._number[key]]
