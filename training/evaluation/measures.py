"""The scores of one query: Recall@k, NDCG@k and RateScore@k, beside those of a random and a perfect order.

As in RadIR (arXiv 2503.04653): Recall@k is 1 if any of the first k matches (S > 0.9, or the own report), over queries
that have a match at all; NDCG@k has the linear gain S and the discount 1 / log2(rank + 1); RateScore@k is the mean S
of the first k. S comes in hundredths; what is not in a query's gallery is UNDEFINED there and never counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..data.statements import UNDEFINED, Mask

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

KS = (1, 3, 5, 10, 20, 50, 100)
MEASURES = ("recall", "ndcg", "ratescore")
DEPTH = max(KS)
BLOCK = 1024  # queries ranked at once
SAME = 90  # hundredths; more than this is a match
_LAST = (1 << 31) - 1
_DISCOUNTS = 1 / np.log2(np.arange(DEPTH) + 2)
_AT = np.array(KS) - 1


@dataclass(frozen=True)
class Question:
    """relevance: uint8 [queries, gallery], UNDEFINED where the one is not in the other's gallery. matches: bool, same
    shape, what Recall@k looks for. What is derived from them does not depend on the model, so it is computed once."""

    relevance: U8
    matches: Mask

    @classmethod
    def by_relevance(cls, relevance: U8) -> Question:
        return cls(relevance, (relevance > SAME) & (relevance != UNDEFINED))

    @cached_property
    def size(self) -> I64:
        """The size of each query's gallery, [queries]."""
        return np.asarray((self.relevance != UNDEFINED).sum(axis=1), np.int64)

    @cached_property
    def sought(self) -> I64:
        """The number of matches in it, [queries]."""
        return np.asarray((self.matches & (self.relevance != UNDEFINED)).sum(axis=1), np.int64)

    @cached_property
    def ideal(self) -> F64:
        """The gains S of a perfect order, [queries, DEPTH]."""
        gains = np.where(self.relevance == UNDEFINED, np.uint8(0), self.relevance)
        if gains.shape[1] > DEPTH:
            gains = np.partition(gains, -DEPTH, axis=1)[:, -DEPTH:]
        return _padded(np.sort(gains, axis=1)[:, ::-1] / 100)


class Lines(NamedTuple):
    """Per query the expected scores of a random order and those of a perfect order, [queries, measures, ks]."""

    random: F64
    oracle: F64


def ranked(scores: F32, relevance: U8, depth: int = DEPTH) -> I64:
    """The best ``depth`` of each query's gallery, best first, equal scores in the gallery's order [queries, <= depth].

    What is not in the gallery comes last, if it comes at all.
    """
    depth = min(depth, scores.shape[1])
    bits = np.ascontiguousarray(scores, np.float32).view(np.int32).astype(np.int64)
    bits = np.where(bits < 0, -(bits & _LAST), bits)  # floats in the order of integers, -0 equal to 0
    bits[relevance == UNDEFINED] = -_LAST - 1
    keys = (bits << 31) + (_LAST - np.arange(scores.shape[1]))
    oracle = np.partition(keys, -depth, axis=1)[:, -depth:]
    oracle.sort(axis=1)
    return np.asarray(_LAST - (oracle[:, ::-1] & _LAST), np.int64)


def score(question: Question, scores: F32) -> F64:
    """The scores of ranking by ``scores`` [queries, gallery]: every measure at every k, [queries, measures, ks].

    NaN where the measure does not count the query.
    """
    hits, gained = [], []
    for start in range(0, len(scores), BLOCK):
        cut = slice(start, start + BLOCK)
        relevance = question.relevance[cut]
        order = ranked(scores[cut], relevance)
        gains = np.take_along_axis(relevance, order, axis=1)
        inside = gains != UNDEFINED
        found = np.take_along_axis(question.matches[cut], order, axis=1) & inside
        hits.append(_padded(np.maximum.accumulate(found, axis=1).astype(np.float64), edge=True))
        gained.append(_padded(np.where(inside, gains, 0) / 100))
    return _measured(question, np.concatenate(hits), np.concatenate(gained))


def lines(question: Question) -> Lines:
    """Exact: hypergeometric for Recall@k (1 - (1 - p)^k in a large gallery), expectations for the others."""
    inside = question.relevance != UNDEFINED
    size = question.size[:, None]
    total = np.where(inside, question.relevance, 0).sum(axis=1, keepdims=True)
    drawn = np.arange(DEPTH)
    missed = np.clip((size - question.sought[:, None] - drawn) / np.maximum(1, size - drawn), 0, None)
    gained = np.where(drawn < size, total / np.maximum(1, size) / 100, 0)
    random = _measured(question, 1 - np.cumprod(missed, axis=1), gained)
    return Lines(random, _measured(question, np.ones_like(question.ideal), question.ideal))


def _measured(question: Question, hit: F64, gained: F64) -> F64:
    """The measures at the ks, from the first DEPTH ranks; ``hit``: the probability of a match so far."""
    dcg, ideal = (np.cumsum(gains * _DISCOUNTS, axis=1)[:, _AT] for gains in (gained, question.ideal))
    size = question.size[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(question.sought[:, None] > 0, hit[:, _AT], np.nan)
        ndcg = np.where(ideal > 0, dcg / ideal, np.nan)
        rate = np.where(size > 0, np.cumsum(gained, axis=1)[:, _AT] / np.minimum(np.array(KS), size), np.nan)
    return np.stack([recall, ndcg, rate], axis=1)


def _padded(values: F64, *, edge: bool = False) -> F64:
    """[queries, DEPTH]; past the end of a small gallery nothing is gained, and what was found stays found."""
    more = DEPTH - values.shape[1]
    if edge and values.shape[1]:
        return np.pad(values, ((0, 0), (0, more)), mode="edge")
    return np.pad(values, ((0, 0), (0, more)))
