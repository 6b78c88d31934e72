"""A quick look while a network trains: Recall@k over queries whose region is abnormal, and whether it collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from radir_pacs.anatomy import ROOT
from radir_pacs.types import Region

from ..data.statements import UNDEFINED, Relevance
from ..data.studies import StudySet
from .collapse import COLLAPSED, within_region_cosine
from .measures import F32, KS, Question, lines, score
from .regions import LEAST_QUERIES, TRIVIAL
from .resample import Bootstrap, Resampled


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

    The gallery of a query is all studies of other patients that have statements about the region and show it. The mean
    is over the regions below the whole chest that ``regions.judgeable`` would take: at least ``least_queries`` queries,
    which a random order does not answer anyway. ``k`` is one of KS. "recall" is None where no region can be judged.
    """
    seen, column = data.seen(regions), KS.index(k)
    everyone = np.arange(len(data))
    apart = data.patients[:, None] != data.patients[None]
    bootstrap = Bootstrap(data.patients, seed)
    averaged: dict[str, Resampled] = {}
    per_region: dict[str, dict[str, Any]] = {}
    for number, region in enumerate(regions):
        rows = everyone[relevance.abnormal[:, number] & seen[:, number]]
        table = relevance.pairs(number, rows, everyone)
        table[~(apart[rows] & seen[None, :, number])] = UNDEFINED
        question = Question.by_relevance(table)
        if (question.sought > 0).sum() < least_queries:
            continue
        chance = np.nanmean(lines(question).random[:, 0], axis=0)
        if chance[KS.index(10)] > TRIVIAL:
            continue
        resampled = bootstrap.resampled(
            score(question, vectors[rows, number] @ vectors[:, number].T)[:, :1, column], rows
        )
        if region.key != ROOT:
            averaged[region.key] = resampled
        per_region[region.key] = {
            "recall": _rounded(resampled.mean[0]),
            "interval_95": [_rounded(edge[0]) for edge in resampled.interval()],
            "random": _rounded(chance[column]),
            "queries": int(resampled.queries[0]),
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
    if averaged:
        mean = Resampled.average(list(averaged.values()))
        summary |= {
            "recall": _rounded(mean.mean[0]),
            "interval_95": [_rounded(edge[0]) for edge in mean.interval()],
            "random": _rounded(np.mean([per_region[key]["random"] for key in averaged])),
        }
    return summary


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
