"""Exact search: the oracle of the tests, and the search for small partitions, the tail and narrow filters.

A row's score depends on nothing but that row and the query: `np.vecdot` takes one dot product per row, whereas a matrix
product may round a row differently by its place in the block. So every path of a search (whole, filtered, tail, graph
candidates scored again) gives a case the same score to the last bit, and ties are true ties.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radir_pacs.index.label_set import contains
from radir_pacs.types import F32, I64

_CHUNK_ROWS = 4096  # rows gathered at a time: bounds the copy (4 MB at 256 dimensions) and stays in the cache
_SCAN_FRACTION = 0.25  # above it, reading all rows in order beats gathering the wanted ones


def exact_search(vectors: F32, labels: I64, query: F32, k: int, allowed: I64 | None = None) -> tuple[I64, F32]:
    """The ``k`` labels most like ``query``, best first; a tie goes to the lower label. Fewer when there are fewer.

    vectors: float32 [n, dim], unit rows; labels: int64 [n], ascending; query: float32 [dim], unit.
    allowed: ascending labels to choose among (those not in ``labels`` are passed over), None for all.
    """
    rows = None if allowed is None else np.flatnonzero(contains(allowed, labels))
    return search_rows(vectors, labels, query, k, rows)


def search_rows(vectors: F32, labels: I64, query: F32, k: int, rows: npt.NDArray[np.intp] | None) -> tuple[I64, F32]:
    """Like `exact_search`, among the given row numbers (None: all rows)."""
    if rows is None:
        return best(labels, cosines(vectors, query), k)
    return best(labels[rows], cosines_of_rows(vectors, rows, query), k)


def cosines(vectors: F32, query: F32) -> F32:
    """Cosine of each unit row with the unit query, float32 [n] in [-1, 1]."""
    if not len(vectors):
        return np.empty(0, np.float32)
    scores: F32 = np.vecdot(vectors, query)
    return np.clip(scores, -1.0, 1.0, out=scores)


def cosines_of_rows(vectors: F32, rows: npt.NDArray[np.intp], query: F32) -> F32:
    """Cosines of the chosen rows only; memory stays bounded however many are chosen."""
    if len(rows) > _SCAN_FRACTION * len(vectors):
        return cosines(vectors, query)[rows]
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = rows[start : start + _CHUNK_ROWS]
        scores[start : start + len(part)] = cosines(vectors[part], query)
    return scores


def best(labels: I64, scores: F32, k: int) -> tuple[I64, F32]:
    """The ``k`` best by score descending, then label ascending. ``labels`` may come in any order."""
    if k < 1:
        raise ValueError("k is at least 1")
    if len(scores) > k:
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= kth)  # every tie of the k-th, so that the label decides among them
        labels, scores = labels[candidates], scores[candidates]
    order = np.lexsort((labels, -scores))[:k]
    return labels[order], scores[order]
