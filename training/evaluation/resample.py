"""Figures with their uncertainty: bootstrap over patients, with the same draws for every model, so that differences are
paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .measures import F32, F64, I64

DRAWS = 1000


@dataclass(frozen=True)
class Resampled:
    """Means of figures and of their bootstrap draws; shapes [...] and [draws, ...], NaN without a query.

    ``queries``: the number in each mean.
    """

    mean: F64
    draws: F32
    queries: I64

    def interval(self) -> tuple[F64, F64]:
        """The 95 % percentile interval."""
        return percentiles(self.draws)

    @classmethod
    def average(cls, parts: Sequence[Resampled]) -> Resampled:
        """The plain mean over parts (regions) that have a figure, in every draw."""
        with np.errstate(invalid="ignore"):
            mean = _nanmean(np.stack([part.mean for part in parts]))
            draws = _nanmean(np.stack([part.draws for part in parts])).astype(np.float32)
        return cls(mean, draws, np.sum([part.queries for part in parts], axis=0))


class Bootstrap:
    """``patients`` [n]: whose each row is. Patients, not images, are drawn with replacement."""

    def __init__(self, patients: I64, seed: int, draws: int = DRAWS) -> None:
        people, self._person = np.unique(patients, return_inverse=True)
        rng = np.random.default_rng(seed)
        count = max(1, len(people))
        self._people = count
        self._weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float32)

    def weights(self, rows: I64) -> F32:
        """How often each of ``rows`` [n] is drawn, [draws, n]."""
        return self._weights[:, self._person[rows]]

    def resampled(self, values: F64, rows: I64) -> Resampled:
        """The mean of ``values`` [queries, ...] over queries that have one; ``rows`` [queries] are rows of patients."""
        shape = values.shape[1:]
        flat = values.reshape(len(values), math.prod(shape))
        known = ~np.isnan(flat)
        sums = np.zeros((self._people, flat.shape[1]))
        counts = np.zeros_like(sums)
        np.add.at(sums, self._person[rows], np.where(known, flat, 0))
        np.add.at(counts, self._person[rows], known)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.sum(axis=0) / counts.sum(axis=0)
            draws = (self._weights @ sums.astype(np.float32)) / (self._weights @ counts.astype(np.float32))
        return Resampled(
            mean.reshape(shape), draws.reshape(-1, *shape), counts.sum(axis=0).astype(np.int64).reshape(shape)
        )


def percentiles(draws: F32) -> tuple[F64, F64]:
    """2.5 and 97.5 % over the first axis; NaN where no draw has a figure."""
    known = ~np.isnan(draws)
    if known.all():
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        return np.asarray(low, np.float64), np.asarray(high, np.float64)
    some = known.any(axis=0)
    filled = np.where(some, draws, 0)
    low, high = np.nanpercentile(filled, [2.5, 97.5], axis=0)
    return np.where(some, low, np.nan), np.where(some, high, np.nan)


def _nanmean(stack: F64 | F32) -> F64:
    known = ~np.isnan(stack)
    count = known.sum(axis=0)
    total = np.where(known, stack, 0).sum(axis=0, dtype=np.float64)
    return np.asarray(np.where(count > 0, total / np.maximum(1, count), np.nan), np.float64)
