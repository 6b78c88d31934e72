"""One merged list from several regions: a case's score is the weighted mean of its cosines in each.

Each region is searched by itself, a little deeper than asked for. A case that none of the region searches returned
scores at most the weighted mean of where the searches ended, so that the list is complete once its last case
scores more (the threshold algorithm: Fagin, Lotem and Naor, "Optimal aggregation algorithms for middleware", 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from radir_pacs.errors import BadInput
from radir_pacs.index import Hits, Partition, Selection
from radir_pacs.similar_cases import PageMark
from radir_pacs.types import F32, I64

_DEEPER = 4  # times as many as asked for are looked at in each region, at first
_DEEPEST = 20_000  # looked at in a region at most; a list that needs more is not complete


@dataclass(frozen=True, kw_only=True)
class RegionSearch:
    """One region of a question: its partition, what may answer, the study's unit vector, and how much it counts."""

    partition: Partition
    selection: Selection
    vector: F32
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Labels, best first; ties by ascending label. by_part: float32 [n, parts], the cosine in each region.

    scores: float32 [n]. exact: no case was passed over. generation: of the first part.
    """

    labels: I64
    scores: F32
    by_part: F32
    exact: bool
    generation: str | None

    def rows(self, which: slice | npt.NDArray[np.intp]) -> Ranked:
        """Some of the rows."""
        return replace(self, labels=self.labels[which], scores=self.scores[which], by_part=self.by_part[which])


def ranked(parts: Sequence[RegionSearch], k: int) -> Ranked:
    """The ``k`` best cases that have every one of ``parts`` (at least one, of one model).

    Raises BadInput where several are asked for more than they can be merged for.
    """
    if len(parts) == 1:
        hits = parts[0].partition.search(parts[0].vector, k, parts[0].selection)
        return Ranked(
            labels=hits.labels,
            scores=hits.scores,
            by_part=hits.scores[:, np.newaxis],
            exact=hits.exact,
            generation=hits.generation,
        )
    if k > _DEEPEST // _DEEPER:
        raise BadInput(f"of several regions at most the first {_DEEPEST // _DEEPER} cases can be asked for")
    depth = _DEEPER * k
    while True:
        found = [part.partition.search(part.vector, depth, part.selection) for part in parts]
        merged = _merged(parts, found, k)
        complete = _is_complete(parts, found, merged.scores, k, depth)
        if complete or depth >= _DEEPEST:
            return replace(merged, exact=complete and merged.exact)
        depth *= _DEEPER


def page_of(parts: Sequence[RegionSearch], after: PageMark | None, seen: int, limit: int) -> Ranked:
    """At most ``limit`` cases, behind the first ``seen`` ones or, with ``after``, behind the case where it ended."""
    wanted = seen + limit
    while True:
        found = ranked(parts, wanted)
        if after is None:
            return found.rows(slice(seen, wanted))
        score = np.float32(after.score)
        behind = (found.scores < score) | ((found.scores == score) & (found.labels > after.label))
        rows = np.flatnonzero(behind)[:limit]
        if len(rows) == limit or len(found.labels) < wanted:
            return found.rows(rows)
        wanted *= 2  # some that were not there at the first page stand before it


def _merged(parts: Sequence[RegionSearch], found: Sequence[Hits], k: int) -> Ranked:
    labels = np.unique(np.concatenate([hits.labels for hits in found]))
    by_part = np.stack([part.partition.scores(part.vector, labels) for part in parts], axis=1)
    everywhere = ~np.isnan(by_part).any(axis=1)  # a region that an image does not show is no likeness
    labels, by_part = labels[everywhere], by_part[everywhere]
    scores = np.vecdot(by_part, _shares(parts))  # a row's score is the same wherever it stands (`index.exact`)
    order = np.lexsort((labels, -scores))[:k]
    return Ranked(
        labels=labels[order],
        scores=scores[order],
        by_part=by_part[order],
        exact=all(hits.exact for hits in found),
        generation=found[0].generation,
    )


def _is_complete(parts: Sequence[RegionSearch], found: Sequence[Hits], scores: F32, k: int, depth: int) -> bool:
    if any(len(hits.labels) < depth for hits in found):
        return True  # that region named every case that it has
    bound = float(np.array([hits.scores[-1] for hits in found]) @ _shares(parts))
    return len(scores) >= k and float(scores[-1]) >= bound


def _shares(parts: Sequence[RegionSearch]) -> F32:
    weights = np.array([part.weight for part in parts], np.float32)
    shares: F32 = weights / weights.sum()
    return shares
