"""What one query earns: Recall@k, NDCG@k and RateScore@k, beside what a random and a perfect order earn.

As in RadIR (arXiv 2503.04653): Recall@k is 1 if any of the first k matches (S > 0.9, or the own report), over queries
that have a match at all; NDCG@k has the linear gain S and the discount 1 / log2(rank + 1); RateScore@k is the mean S
of the first k. S comes in hundredths; what is not in a query's gallery is UNDEFINED there and never counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..statements import UNDEFINED, Mask

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

KS = (1, 3, 5, 10, 20, 50, 100)
MEASURES = ("recall", "ndcg", "ratescore")
DEPTH = max(KS)
SAME = 90  # hundredths; more than this is a match
_LAST = (1 << 31) - 1
_DISCOUNTS = 1 / np.log2(np.arange(DEPTH) + 2)
_AT = np.array(KS) - 1


class Question(NamedTuple):
    """relevance: uint8 [queries, gallery], UNDEFINED where the one is not in the other's gallery; matches: bool, same
    shape, what Recall@k looks for."""

    relevance: U8
    matches: Mask

    @classmethod
    def by_relevance(cls, relevance: U8) -> Question:
        return cls(relevance, (relevance > SAME) & (relevance != UNDEFINED))


class Lines(NamedTuple):
    """Per query what a random order earns on average and a perfect order earns, [queries, measures, ks]."""

    random: F64
    best: F64


def ranked(scores: F32, relevance: U8, depth: int = DEPTH) -> I64:
    """The best ``depth`` of each query's gallery, best first, equal scores in the gallery's order [queries, <= depth].

    What is not in the gallery comes last, if it comes at all.
    """
    depth = min(depth, scores.shape[1])
    bits = np.ascontiguousarray(scores, np.float32).view(np.int32).astype(np.int64)
    bits = np.where(bits < 0, -(bits & _LAST), bits)  # floats in the order of integers, -0 equal to 0
    bits[relevance == UNDEFINED] = -_LAST - 1
    keys = (bits << 31) + (_LAST - np.arange(scores.shape[1]))
    best = np.partition(keys, -depth, axis=1)[:, -depth:]
    best.sort(axis=1)
    return np.asarray(_LAST - (best[:, ::-1] & _LAST), np.int64)


def earned(question: Question, order: I64) -> F64:
    """Every measure at every k of each query [queries, measures, ks]; NaN where it is no query of that measure."""
    gains = np.take_along_axis(question.relevance, order, axis=1)
    inside = gains != UNDEFINED
    hits = np.take_along_axis(question.matches, order, axis=1) & inside
    gained = _padded(np.where(inside, gains, 0) / 100)
    hit = _padded(np.maximum.accumulate(hits, axis=1).astype(np.float64), edge=True)
    return _judged(question, hit, np.cumsum(gained * _DISCOUNTS, axis=1), np.cumsum(gained, axis=1))


def lines(question: Question) -> Lines:
    """Exact: hypergeometric for Recall@k (1 - (1 - p)^k in a large gallery), expectations for the others."""
    inside = question.relevance != UNDEFINED
    size = inside.sum(axis=1)
    mean = np.where(inside, question.relevance, 0).sum(axis=1) / np.maximum(1, size) / 100
    wrong = size - (question.matches & inside).sum(axis=1)
    drawn = np.arange(DEPTH)
    missed = np.clip((wrong[:, None] - drawn) / np.maximum(1, size[:, None] - drawn), 0, None)
    taken = np.where(drawn < size[:, None], mean[:, None], 0)
    random = _judged(
        question,
        1 - np.cumprod(missed, axis=1),
        np.cumsum(taken * _DISCOUNTS, axis=1),
        np.cumsum(taken, axis=1),
    )
    ideal = np.cumsum(_ideal(question.relevance), axis=1)
    best = _judged(question, np.ones((len(size), DEPTH)), _ideal_dcg(question.relevance), ideal)
    return Lines(random, best)


def _judged(question: Question, hit: F64, dcg: F64, total: F64) -> F64:
    """From running figures [queries, DEPTH] to measures at the ks, each NaN where it is not defined."""
    inside = question.relevance != UNDEFINED
    size = inside.sum(axis=1)
    has_match = (question.matches & inside).any(axis=1)
    ideal = _ideal_dcg(question.relevance)[:, _AT]
    recall = np.where(has_match[:, None], hit[:, _AT], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        ndcg = np.where(ideal > 0, dcg[:, _AT] / ideal, np.nan)
        rate = np.where(size[:, None] > 0, total[:, _AT] / np.minimum(np.array(KS), size[:, None]), np.nan)
    return np.stack([recall, ndcg, rate], axis=1)


def _ideal(relevance: U8) -> F64:
    """The gains of a perfect order, [queries, DEPTH]."""
    gains = np.sort(np.where(relevance == UNDEFINED, np.uint8(0), relevance), axis=1)[:, ::-1][:, :DEPTH]
    return _padded(gains / 100)


def _ideal_dcg(relevance: U8) -> F64:
    return np.cumsum(_ideal(relevance) * _DISCOUNTS, axis=1)


def _padded(values: F64, *, edge: bool = False) -> F64:
    """[queries, DEPTH]; past the end of a small gallery nothing is gained, and what was found stays found."""
    more = DEPTH - values.shape[1]
    if edge and values.shape[1]:
        return np.pad(values, ((0, 0), (0, more)), mode="edge")
    return np.pad(values, ((0, 0), (0, more)))
