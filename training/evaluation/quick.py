"""A quick look while a network trains: Recall@k over queries whose region is abnormal, and whether it collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from radir_pacs.types import Region

from ..statements import UNDEFINED, Relevance
from ..studies import StudySet
from .measures import F32, F64, KS, Question, earned, lines
from .regions import LEAST_QUERIES, TRIVIAL
from .resample import Bootstrap, Spread

COLLAPSED = 0.98


def within_region_cosine(vectors: F32) -> F64:
    """Mean cosine of two different studies in each region, of unit vectors [studies, regions, dim]: [regions]."""
    n = len(vectors)
    if n < 2:
        return np.full(vectors.shape[1], np.nan)
    sums = vectors.sum(axis=0, dtype=np.float64)
    return np.asarray(((sums**2).sum(axis=1) - n) / (n * (n - 1)), np.float64)


def abnormal_recall(
    vectors: F32,
    data: StudySet,
    relevance: Relevance,
    regions: Sequence[Region],
    *,
    k: int = 5,
    seed: int = 0,
    least_queries: int = LEAST_QUERIES,
) -> dict[str, Any]:
    """The figures of a manifest, of unit vectors float32 [studies, regions, dim]; ``relevance`` is of ``regions``.

    The gallery of a query are all studies of other patients that say something of the region and show it. The mean is
    over regions with at least ``least_queries`` queries that a random order does not answer anyway. ``k`` is one of
    KS. "recall" is None where no region can be judged.
    """
    seen, column = data.seen(regions), KS.index(k)
    everyone = np.arange(len(data))
    apart = data.patients[:, None] != data.patients[None]
    bootstrap = Bootstrap(data.patients, seed)
    spreads: list[Spread] = []
    per_region: dict[str, dict[str, Any]] = {}
    for number, region in enumerate(regions):
        rows = everyone[relevance.abnormal[:, number] & seen[:, number]]
        if len(rows) < least_queries:
            continue
        table = relevance.pairs(number, rows, everyone)
        table[~(apart[rows] & seen[None, :, number])] = UNDEFINED
        question = Question.by_relevance(table)
        hit = earned(question, vectors[rows, number] @ vectors[:, number].T)[:, :1, column]
        chance = np.nanmean(lines(question).random[:, 0, column]) if question.matches.any() else 1.0
        spread = bootstrap.spread(hit, rows)
        if spread.queries[0] < least_queries or chance > TRIVIAL:
            continue
        spreads.append(spread)
        per_region[region.key] = {
            "recall": _rounded(spread.mean[0]),
            "interval_95": [_rounded(edge[0]) for edge in spread.interval()],
            "random": _rounded(chance),
            "queries": int(spread.queries[0]),
        }
    cosine = float(within_region_cosine(vectors).mean())
    summary: dict[str, Any] = {
        "recall": None,
        "interval_95": None,
        "random": None,
        "k": k,
        "mean_cosine_within_region": _rounded(cosine),
        "collapsed": cosine > COLLAPSED,
        "regions": per_region,
    }
    if spreads:
        mean = Spread.average(spreads)
        summary |= {
            "recall": _rounded(mean.mean[0]),
            "interval_95": [_rounded(edge[0]) for edge in mean.interval()],
            "random": _rounded(np.mean([entry["random"] for entry in per_region.values()])),
        }
    return summary


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
