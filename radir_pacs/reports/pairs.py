"""Relevance of all pairs of reports at a region: tables computed block by block, and top-k lists without a table.

Reports with the same items share a row of the computation. For a region with items v and distinct sets u,
best[v, u] is the best match of item v in set u; the directed score of set a to set u is the weighted mean of best over
a's items: a sparse times a dense matrix. Scores are kept as round(100 s) in uint8.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache
from scipy.sparse import csr_matrix

from radir_pacs import durable
from radir_pacs.reports.similarity import Item, ItemSimilarity

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
_KEPT_BYTES = 600_000_000
_GATHERED = 10_000_000  # similarities gathered at a time before the best are taken
_ROW_BLOCKS = 4  # for top lists: this many blocks of rows pass over all columns together
_SET_BITS = 40
_LAST_SET = (1 << _SET_BITS) - 1
BLOCK = 1024  # distinct sets per block: 1024 x 10,000 float32 are 40 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionItems:
    """What the reports of a collection say about one region.

    ``reports[i]`` is the index of the i-th report that says anything, ``set_of[i]`` the row of its items in ``sets``.
    """

    region: str
    reports: I64
    set_of: I64
    sets: tuple[tuple[Item, ...], ...]

    def fingerprint(self, similarity: ItemSimilarity) -> str:
        """Identifies the content: equal for the same items and weights."""
        digest = hashlib.sha256(repr((self.region, similarity.weights, self.sets)).encode())
        digest.update(self.set_of.tobytes())
        return digest.hexdigest()


def region_items(region: str, reports: Sequence[Mapping[str, tuple[Item, ...]]]) -> RegionItems:
    """Group the reports (``similarity_items`` of each) that say something about ``region``."""
    row: dict[tuple[Item, ...], int] = {}
    indices, set_of = [], []
    for index, items in enumerate(reports):
        found = items.get(region)
        if found:
            indices.append(index)
            set_of.append(row.setdefault(found, len(row)))
    return RegionItems(
        region=region,
        reports=np.asarray(indices, np.int64),
        set_of=np.asarray(set_of, np.int64),
        sets=tuple(row),
    )


class SetScores:
    """Scores of the distinct sets of a region, a block of rows against a block of columns at a time."""

    def __init__(self, sets: Sequence[tuple[Item, ...]], similarity: ItemSimilarity) -> None:
        number: dict[Item, int] = {}
        flat = [number.setdefault(item, len(number)) for items in sets for item in items]
        self._items = np.asarray(flat, np.int64)
        self._starts = np.concatenate([[0], np.cumsum([len(items) for items in sets])]).astype(np.int64)
        vocabulary = list(number)
        self._similarity = similarity.matrix(vocabulary)
        weights = np.asarray([similarity.weight(item) for item in vocabulary], np.float32)
        data = weights[self._items]
        lengths = np.diff(self._starts)
        data = data / np.repeat(np.add.reduceat(data, self._starts[:-1]), lengths) if len(data) else data
        self._weights = csr_matrix(
            (data.astype(np.float32), self._items, self._starts), shape=(len(sets), len(vocabulary))
        )
        self.count = len(sets)
        largest = len(self._similarity) * BLOCK * np.dtype(np.float32).itemsize  # a block of rows asks for two by turns
        self._kept: LRUCache[tuple[int, int], F32] = LRUCache(max(_KEPT_BYTES, 2 * largest), getsizeof=_nbytes)

    def block(self, rows: slice, columns: slice) -> F32:
        """Scores in [0, 1], float32 [rows, columns]."""
        forth = self._directed(rows, columns)
        back = forth.T if rows == columns else self._directed(columns, rows).T
        total = forth + back
        np.maximum(total, 1e-9, out=total)
        return np.asarray(2 * forth * back / total, np.float32)

    def _directed(self, rows: slice, columns: slice) -> F32:
        return np.asarray(self._weights[rows] @ self._best(columns), np.float32)

    def _best(self, columns: slice) -> F32:
        """best[v, u] for the sets u of ``columns``; the latest used are kept, within ``_KEPT_BYTES``, two at least."""
        key = (columns.start, columns.stop)
        if columns.stop - columns.start > BLOCK:
            return np.concatenate([self._best(part) for part in blocks(columns.stop, BLOCK, columns.start)], axis=1)
        found = self._kept.get(key)
        if found is None:
            first, last = self._starts[columns.start], self._starts[columns.stop]
            starts = self._starts[columns.start : columns.stop] - first
            members = self._items[first:last]
            found = np.empty((len(self._similarity), len(starts)), np.float32)
            for part in blocks(len(found), max(1, _GATHERED // max(1, len(members)))):
                # the similarity is symmetric: whole rows are gathered and reduced along the first axis, which is faster
                found[part] = np.maximum.reduceat(self._similarity[members, part], starts, axis=0).T
            self._kept[key] = found
        return found


def _nbytes(found: F32) -> int:
    return found.nbytes


def blocks(stop: int, size: int = BLOCK, start: int = 0) -> list[slice]:
    """Consecutive slices that cover ``range(start, stop)``."""
    return [slice(first, min(stop, first + size)) for first in range(start, stop, size)]


def quantised(scores: F32) -> U8:
    """round(100 s) as uint8."""
    return np.asarray(np.rint(100 * scores), np.uint8)


def write_table(
    items: RegionItems, similarity: ItemSimilarity, path: Path, *, progress: Progress | None = None, block: int = BLOCK
) -> None:
    """Write the symmetric uint8 table [n, n] of a region's n reports to ``path`` (.npy); row i is ``items.reports[i]``.

    Works block by block on a file beside it and renames at the end. If interrupted, it resumes where it stopped, if the
    items and weights are still the same.
    """
    n = len(items.reports)
    part, note = path.with_suffix(".part"), path.with_suffix(".part.json")
    fingerprint = items.fingerprint(similarity)
    done = _done(note, part, fingerprint)
    table = (
        np.lib.format.open_memmap(part, mode="r+")
        if done
        else np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(n, n))
    )
    scores = SetScores(items.sets, similarity)
    members = _members(items)
    cuts = blocks(scores.count, block)
    for i, rows in enumerate(cuts):
        if i >= done:
            for columns in cuts[i:]:
                small = quantised(scores.block(rows, columns))
                if rows == columns:
                    np.fill_diagonal(small, 100)
                at_rows, at_columns = members(rows), members(columns)
                wide = small[np.ix_(items.set_of[at_rows] - rows.start, items.set_of[at_columns] - columns.start)]
                table[np.ix_(at_rows, at_columns)] = wide
                if rows != columns:
                    table[np.ix_(at_columns, at_rows)] = wide.T
            table.flush()
            note.write_text(json.dumps({"fingerprint": fingerprint, "done": i + 1}))
        if progress:
            progress(i + 1, len(cuts))
    del table
    durable.sync(part)
    part.replace(path)
    durable.sync(path.parent)
    note.unlink(missing_ok=True)


def _done(note: Path, part: Path, fingerprint: str) -> int:
    try:
        written = json.loads(note.read_text())
        if part.exists() and written["fingerprint"] == fingerprint:
            return int(written["done"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0


def _members(items: RegionItems) -> Callable[[slice], I64]:
    order = np.argsort(items.set_of, kind="stable").astype(np.int64)
    bounds = np.searchsorted(items.set_of[order], np.arange(len(items.sets) + 1))
    return lambda rows: np.sort(order[bounds[rows.start] : bounds[rows.stop]])


def top_lists(
    items: RegionItems, similarity: ItemSimilarity, k: int, *, block: int = BLOCK, progress: Progress | None = None
) -> Iterator[tuple[int, I64, U8]]:
    """For every report of the region, its k most similar others: (report, reports, scores), best first.

    No table is kept: memory is two blocks of distinct sets, whatever the size of the collection. Ties fall to the
    report that comes first.
    """
    scores = SetScores(items.sets, similarity)
    by_set = np.argsort(items.set_of, kind="stable").astype(np.int64)
    bounds = np.searchsorted(items.set_of[by_set], np.arange(len(items.sets) + 1))
    cuts, row_cuts = blocks(scores.count, block), blocks(scores.count, _ROW_BLOCKS * block)
    for number, rows in enumerate(row_cuts):
        best_sets, best_scores = _best_sets(scores, rows, cuts, k)
        for row in range(rows.start, rows.stop):
            found = best_sets[row - rows.start]
            values = best_scores[row - rows.start]
            first = [by_set[bounds[s] : min(bounds[s + 1], bounds[s] + k + 1)] for s in found]  # no more can be needed
            others = np.concatenate(first)
            repeated = np.repeat(values, [len(part) for part in first])
            order = np.lexsort((others, -repeated.astype(np.int64)))[: k + 1]
            others, repeated = others[order], repeated[order]
            for position in by_set[bounds[row] : bounds[row + 1]]:
                keep = others != position
                yield int(items.reports[position]), items.reports[others[keep][:k]], repeated[keep][:k]
        if progress:
            progress(number + 1, len(row_cuts))


def _best_sets(scores: SetScores, rows: slice, cuts: Sequence[slice], k: int) -> tuple[list[I64], list[U8]]:
    """Per row the k + 1 best sets, which contain at least as many reports."""
    wanted = k + 1
    kept = np.empty((rows.stop - rows.start, 0), np.int64)
    for columns in cuts:
        block = quantised(scores.block(rows, columns))
        own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
        block[own - rows.start, own - columns.start] = 100
        # one number per set, higher is better: the score, then the earlier set
        ranks = (block.astype(np.int64) << _SET_BITS) + (_LAST_SET - np.arange(columns.start, columns.stop))
        kept = np.concatenate([kept, ranks], axis=1)
        if kept.shape[1] > wanted:
            kept = np.partition(kept, -wanted, axis=1)[:, -wanted:]
    kept = -np.sort(-kept, axis=1)
    return list(_LAST_SET - (kept & _LAST_SET)), list((kept >> _SET_BITS).astype(np.uint8))
