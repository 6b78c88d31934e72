"""How often a loss as clear as this would be seen by chance, at any of many regions and groups.

Of thirty intervals of 95 %, one lies below zero by chance in about every third examination of a challenger that is as
good as its champion. So all are judged together: if both are equally good, it does not matter which patient's answers
are called the challenger's. They are exchanged patient by patient at random (randomisation test; Smucker, Allan and
Carterette, CIKM 2007), and a region's loss is compared with the worst loss anywhere in each such exchange (the single
step max-T adjustment of Westfall and Young, Resampling-Based Multiple Testing, 1993), which knows how regions hang
together and is exact with few queries too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ..evaluation.measures import F64, I64

DRAWS = 10_000
_CHUNK = 500
_ALIKE = 1e-5  # of two statistics that differ by rounding only


@dataclass(frozen=True)
class Part:
    """A region or group: rows [q] of the exam that ask, and hits of the challenger minus those of the champion [q]."""

    rows: I64
    difference: F64


class Unjudged(StrEnum):
    """Why a region or group is shown and not judged."""

    FEW_QUERIES = "FEW_QUERIES"
    FEW_PATIENTS = "FEW_PATIENTS"  # for whom the models differ: any loss of theirs is too likely by chance


def least_chance(patients: I64, part: Part) -> float:
    """How rare the worst loss of a part can be at most: all patients for whom the models differ have lost.

    ``patients`` [n] as of ``by_chance``. Other parts only raise it.
    """
    people, person = np.unique(patients[part.rows], return_inverse=True)
    sums = np.zeros(len(people))
    np.add.at(sums, person, np.nan_to_num(part.difference))
    return float(0.5 ** np.count_nonzero(np.abs(sums) > _ALIKE))


def by_chance(patients: I64, parts: Sequence[Part], seed: int, draws: int = DRAWS) -> F64:
    """For each part [parts]: the probability that the worst of all parts is as bad by chance, one-sided, 0 to 1.

    ``patients`` [n]: whose each row is. A part without a loss has one that is near 1; differences that are NaN count
    as no query.
    """
    people, person = np.unique(patients, return_inverse=True)
    sums = np.zeros((len(people), len(parts)))
    for number, part in enumerate(parts):
        np.add.at(sums[:, number], person[part.rows], np.nan_to_num(part.difference))
    spread = np.sqrt((sums**2).sum(axis=0))
    scaled = (sums / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    found = scaled.sum(axis=0)
    rng = np.random.default_rng(seed)
    as_bad = np.ones(len(parts))  # what was found is one of the exchanges
    for start in range(0, draws, _CHUNK):
        signs = 1 - 2 * rng.integers(0, 2, (min(_CHUNK, draws - start), len(people)), np.int8).astype(np.float32)
        worst = (signs @ scaled).min(axis=1, initial=np.inf)
        as_bad += (worst[:, None] <= found + _ALIKE).sum(axis=0)
    return as_bad / (draws + 1)
