"""Why two reports are alike at a region: what both affirm, and what one affirms and the other denies."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from radir_pacs import anatomy
from radir_pacs.reports.findings import Finding, FindingKind, Severity
from radir_pacs.reports.lexicon_terms import ROOT
from radir_pacs.reports.similarity import Item, ItemSimilarity, items_within, report_items
from radir_pacs.similar_cases import FindingNote

ALIKE = 0.6  # from this similarity on, an item counts as shared: the same concept nearby, or a related one in place

Notes = tuple[FindingNote, ...]
_GRADES = tuple(severity.value for severity in Severity)  # by rank


class Statements(NamedTuple):
    """What a report says, made once for all the reports and regions that it is compared with.

    affirms: whether it affirms anything but devices, anywhere.
    """

    items: list[Item]
    affirms: bool

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Statements:
        found = tuple(findings)
        affirms = any(finding.asserted and finding.kind is not FindingKind.DEVICE for finding in found)
        return cls(report_items(found), affirms)


def explain(query: Statements, hit: Statements, region: str) -> tuple[Notes, Notes]:
    """(shared, contradicting) at ``region`` (a key) and below it, in the hit's words.

    Shared: affirmed by the hit and, alike enough, by the query; where neither affirms anything, what both deny.
    Contradicting: affirmed by one and denied by the other. Both empty where either report says nothing there. A concept
    is noted once per place and what lies within it, with its gravest severity. A report that affirms anything anywhere
    is never said to have no abnormality: where its normal statement contradicts a finding, it denies that finding.
    """
    normal = not hit.affirms
    ours = items_within(query.items, region)
    theirs = items_within(hit.items, region)
    similarity = _similarity()
    shared, contradicting = [], []
    for item in theirs:
        same_side = [other for other in ours if other.present == item.present]
        other_side = [other for other in ours if other.present != item.present]
        if item.present and any(similarity.items(item, other) >= ALIKE for other in same_side):
            shared.append(item)
        elif denied := [other for other in other_side if _denies(item, other, similarity)]:
            contradicting += [item] if normal or not _is_normal(item) else _instead(item, denied)
    if not any(item.present for item in (*ours, *theirs)):
        shared = [item for item in theirs if item in ours and (normal or not _is_normal(item))]
    return _notes(_folded(shared)), _notes(_folded(contradicting))


def counts_as(concept: str, broader: str) -> bool:
    """Whether ``concept`` is a kind of ``broader`` so close to it that the two count as alike."""
    similarity = _similarity()
    return similarity.is_kind_of(concept, broader) and similarity.concepts(concept, broader) >= ALIKE


def _is_normal(item: Item) -> bool:
    return item.concept == ROOT and not item.present


def _instead(normal: Item, affirmed: list[Item]) -> list[Item]:
    return [
        Item(concept=item.concept, region=normal.region, present=False) for item in affirmed if item.concept != ROOT
    ]


def _denies(a: Item, b: Item, similarity: ItemSimilarity) -> bool:
    """Whether one affirms what the other denies: the same concept or a kind of the denied one, there or within."""
    affirmed, denied = (a, b) if a.present else (b, a)
    return (
        similarity.is_kind_of(affirmed.concept, denied.concept)
        and similarity.regions(a.region, b.region) >= similarity.weights.same_chain
    )


def _folded(items: list[Item]) -> list[Item]:
    """One item per concept and nest of places: the gravest, else the narrowest if affirmed, the widest if denied."""

    def weight(item: Item) -> tuple[int, int]:
        depth = len(anatomy.ancestors(item.region))
        return item.severity, depth if item.present else -depth

    kept: list[Item] = []
    for item in sorted(items, key=weight, reverse=True):
        if not any(
            (other.concept, other.present) == (item.concept, item.present) and _nested(other.region, item.region)
            for other in kept
        ):
            kept.append(item)
    return [item for item in items if item in kept]


def _nested(a: str, b: str) -> bool:
    """Whether two places are the same, or one lies within the other."""
    return a == b or a in _above(b) or b in _above(a)


def _above(region: str) -> tuple[str, ...]:
    return tuple(above.key for above in anatomy.ancestors(region))


def _notes(items: Iterable[Item]) -> Notes:
    return tuple(
        FindingNote(
            concept=item.concept,
            region=item.region,
            polarity="present" if item.present else "absent",
            severity=_GRADES[item.severity] if item.severity >= 0 else None,
        )
        for item in items
    )


@lru_cache(maxsize=1)
def _similarity() -> ItemSimilarity:
    return ItemSimilarity()
