"""The statements about each study per region, and the similarity of two studies there.

The statements are items of ``radir_pacs.reports`` (concept, place, present or denied, severity): mined from reports, or
the truth about synthetic patients. The labels for training and the relevance for training and evaluation come from
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from radir_pacs import anatomy
from radir_pacs.reports import Item, ItemSimilarity, Miner, similarity_items
from radir_pacs.reports.pairs import SetScores, quantised, region_items
from radir_pacs.types import ImageKind, Region

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Said = Mapping[str, tuple[Item, ...]]  # region key -> items at or below it

ABSENT, PRESENT, MILD, MODERATE, SEVERE = range(5)  # grades; PRESENT: of unstated severity
UNDEFINED = 255  # relevance of a pair where one study has no statement at the region
COLUMNS = 2048  # sets per block of scores


def mined(reports: Sequence[str], kind: ImageKind) -> tuple[Said, ...]:
    """What each report says; images of one study share a report and its statements."""
    miner = Miner()
    known: dict[str, Said] = {}
    return tuple(
        known[text] if text in known else known.setdefault(text, similarity_items(miner.mine(text, kind)))
        for text in reports
    )


def model_regions(kind: ImageKind, said: Iterable[Said] = ()) -> tuple[Region, ...]:
    """The regions of a network for ``kind``: those of the paper, those that reports often mention, and all above them,
    in the order of the anatomy."""
    studies = list(said)
    counts = Counter(item.region for study in studies for item in study.get(anatomy.ROOT, ()) if item.present)
    least = max(3, len(studies) // 200)
    known = {region.key for region in anatomy.regions(kind)}
    wanted = {region.key for region in anatomy.trained(kind)} | {anatomy.ROOT}
    wanted |= {key for key, count in counts.items() if count >= least and key in known}
    wanted |= {above.key for key in wanted for above in anatomy.ancestors(key)}
    return tuple(region for region in anatomy.regions(kind) if region.key in wanted)


def common_concepts(said: Sequence[Said], least: int) -> tuple[str, ...]:
    """Concepts affirmed in at least ``least`` studies, by name."""
    counts = Counter(
        concept for study in said for concept in {item.concept for item in study.get(anatomy.ROOT, ()) if item.present}
    )
    return tuple(sorted(concept for concept, count in counts.items() if count >= least))


@dataclass(frozen=True)
class Labels:
    """grades: uint8 [studies, regions, concepts], the most severe at or below the region. described: bool [studies,
    regions], whether there is any statement. possible: bool [regions, concepts], what is ever affirmed there."""

    grades: U8
    described: Mask
    possible: Mask

    @classmethod
    def of(cls, said: Sequence[Said], regions: Sequence[Region], concepts: Sequence[str]) -> Labels:
        column = {concept: i for i, concept in enumerate(concepts)}
        grades = np.zeros((len(said), len(regions), len(concepts)), np.uint8)
        described = np.zeros(grades.shape[:2], np.bool_)
        for row, key in enumerate(stand_ins(said, regions)):
            for study, items in enumerate(said):
                found = items.get(key, ())
                described[study, row] = bool(found) and key == regions[row].key
                for item in found:
                    if item.present and item.concept in column:
                        cell = study, row, column[item.concept]
                        grades[cell] = max(int(grades[cell]), _grade(item))
        possible: Mask = np.asarray(grades.any(axis=0))
        return cls(grades, described, possible)

    def subset(self, rows: npt.NDArray[np.generic]) -> Labels:
        return replace(self, grades=self.grades[rows], described=self.described[rows])


def _grade(item: Item) -> int:
    return PRESENT if item.severity < 0 else max(MILD, min(SEVERE, item.severity + 1))


def stand_ins(said: Sequence[Said], regions: Sequence[Region]) -> tuple[str, ...]:
    """For each region its own key, or that of the nearest region above it with any affirmed finding.

    Queries for a region that the data never mention then have an answer that was learned.
    """
    spoken = {key for study in said for key, items in study.items() if any(item.present for item in items)}
    return tuple(
        next(
            (key for key in (region.key, *(above.key for above in anatomy.ancestors(region.key))) if key in spoken),
            anatomy.ROOT,
        )
        for region in regions
    )


@dataclass(frozen=True)
class Relevance:
    """Similarity of all pairs of studies per region.

    ``tables[r]``: uint8 [sets, sets], round(100 s) of the distinct sets of items; ``set_of``: int32 [studies,
    regions], the set of each study, -1 without statements. ``abnormal``: bool [studies, regions].
    """

    tables: tuple[U8, ...]
    set_of: I32
    abnormal: Mask

    @classmethod
    def of(cls, said: Sequence[Said], keys: Sequence[str]) -> Relevance:
        """For the regions ``keys``; the same key twice shares its table."""
        similarity = ItemSimilarity()
        set_of = np.full((len(said), len(keys)), -1, np.int32)
        abnormal = np.zeros((len(said), len(keys)), np.bool_)
        tables: list[U8] = []
        made: dict[str, U8] = {}
        for row, key in enumerate(keys):
            items = region_items(key, said)
            set_of[items.reports, row] = items.set_of
            wrong = np.array([any(item.present for item in found) for found in items.sets], np.bool_)
            if len(items.sets):
                abnormal[items.reports, row] = wrong[items.set_of]
            if key not in made:
                made[key] = _table(items.sets, similarity)
            tables.append(made[key])
        return cls(tuple(tables), set_of, abnormal)

    def subset(self, rows: npt.NDArray[np.generic]) -> Relevance:
        return replace(self, set_of=self.set_of[rows], abnormal=self.abnormal[rows])

    def pairs(self, region: int, rows: I64, columns: I64) -> U8:
        """round(100 s) of studies ``rows`` and ``columns`` at region number ``region``; UNDEFINED if one has no
        statement."""
        mine, theirs = self.set_of[rows, region], self.set_of[columns, region]
        if not len(self.tables[region]):
            return np.full((len(rows), len(columns)), UNDEFINED, np.uint8)
        found = self.tables[region][mine[:, None], theirs[None, :]]
        return np.asarray(np.where((mine >= 0)[:, None] & (theirs >= 0)[None, :], found, UNDEFINED), np.uint8)

    def batch(self, rows: I64) -> U8:
        """All regions of one batch: uint8 [regions, batch, batch]."""
        return np.stack([self.pairs(region, rows, rows) for region in range(len(self.tables))])


def _table(sets: Sequence[tuple[Item, ...]], similarity: ItemSimilarity) -> U8:
    table = np.zeros((len(sets), len(sets)), np.uint8)
    if sets:
        scores = SetScores(sets, similarity)
        cuts = [slice(start, min(len(sets), start + COLUMNS)) for start in range(0, len(sets), COLUMNS)]
        for columns in cuts:
            for rows in cuts:
                table[rows, columns] = quantised(scores.block(rows, columns))
    return table
