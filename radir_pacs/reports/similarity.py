"""Graded similarity of two reports at a region.

RaTEScore's algebra (arXiv 2406.16845) over a region's items: each item of one report takes its best match of the
other, the weighted mean over items is taken in both directions, and the score is their harmonic mean. The
ontology replaces a text embedding's cosine: Tversky's similarity of two concepts over the sets of their ancestors,
times factors of the slots that must agree (place, severity, certainty), times a strong penalty where one report denies
what the other affirms. Where either report says nothing, the similarity is undefined (None), never a number.
docs/results/relevance.md has the measurements behind the choices.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from radir_pacs import anatomy
from radir_pacs.reports.findings import Certainty, Finding, MinedReport
from radir_pacs.reports.lexicon import Lexicon, load
from radir_pacs.reports.lexicon_terms import MEASUREMENT, ROOT

_T = TypeVar("_T", bound=Hashable)
FLIP = 0.1  # upper bound of the similarity of an affirmed and a denied item
NO_SEVERITY = -1


class Item(NamedTuple):
    """What a report says at one place, in the terms that similarity compares."""

    concept: str
    region: str
    present: bool
    severity: int = NO_SEVERITY  # rank, 0 minimal to 3 severe
    certain: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The algebra's numbers; defaults were chosen on the tuning half (docs/adr)."""

    flip: float = FLIP
    severity_step: float = 0.1  # lost per step of severity
    unsaid_severity: float = 0.95
    doubt: float = 0.7
    same_chain: float = 0.7  # one place lies within the other
    same_family: float = 0.7  # another part of the same organ
    other_side: float = 0.5
    apart: float = 0.4
    denied: float = 0.1  # weight of a denied item relative to an affirmed one
    normal: float = 0.7  # "lungs are clear" beside "no consolidation"


DEFAULT = Weights()


def report_items(report: MinedReport | Iterable[Finding]) -> list[Item]:
    """Items of a report, each at the place that the report names, sorted.

    For one concept at one place, an affirmed statement outweighs a denied one, and the gravest severity counts.
    Findings that are history or a question are left out; so is "normal" at a place where something is affirmed.
    """
    findings = report.findings if isinstance(report, MinedReport) else report
    best: dict[tuple[str, str], Item] = {}
    for finding in findings:
        if finding.certainty in (Certainty.HISTORICAL, Certainty.HYPOTHETICAL) or finding.concept == MEASUREMENT:
            continue
        for region in finding.regions:
            item = Item(
                concept=finding.concept,
                region=region,
                present=finding.asserted,
                severity=finding.severity.rank if finding.severity and finding.asserted else NO_SEVERITY,
                certain=finding.certainty is not Certainty.POSSIBLE,
            )
            known = best.get((item.concept, region))
            if known is None or item[2:] > known[2:]:
                best[item.concept, region] = item
    spoilt = {region for item in best.values() if item.present for region in _upward(item.region)}
    return [item for item in sorted(best.values()) if item.present or item.concept != ROOT or item.region not in spoilt]


def items_within(items: Iterable[Item], region: str) -> tuple[Item, ...]:
    """Those at ``region`` (a key) or below it, in their order."""
    return tuple(item for item in items if region in _upward(item.region))


def similarity_items(report: MinedReport | Iterable[Finding]) -> dict[str, tuple[Item, ...]]:
    """`report_items` at every region that the report mentions, each propagated to the regions above."""
    by_region: dict[str, list[Item]] = {}
    for item in report_items(report):
        for region in _upward(item.region):
            by_region.setdefault(region, []).append(item)
    return {region: tuple(items) for region, items in by_region.items()}


@cache
def _upward(region: str) -> tuple[str, ...]:
    return (region, *(above.key for above in anatomy.ancestors(region)))


class ItemSimilarity:
    """Similarity of items, in [0, 1]: 1 on itself, symmetric, at most ``weights.flip`` across polarity."""

    def __init__(self, lexicon: Lexicon | None = None, weights: Weights = DEFAULT) -> None:
        self._lexicon = lexicon or load()
        self.weights = weights
        self._features = {key: above - {ROOT} for key, above in self._lexicon.ancestors.items()}
        self._concepts: dict[tuple[str, str], float] = {}

    def concepts(self, a: str, b: str) -> float:
        """Tversky's similarity of the ancestor sets (without the root), with both differences counted in full."""
        if a == b:
            return 1.0
        key = (a, b) if a < b else (b, a)
        found = self._concepts.get(key)
        if found is None:
            mine, theirs = self._features[a], self._features[b]
            found = self._concepts[key] = len(mine & theirs) / max(1, len(mine | theirs))
        return found

    def denials(self, a: str, b: str) -> float:
        """The same for two denied concepts: "normal" denies everything, so it is like any denial."""
        return self.weights.normal if a != b and ROOT in (a, b) else self.concepts(a, b)

    def is_kind_of(self, concept: str, broader: str) -> bool:
        """Whether a concept is the broader one or a kind of it."""
        return broader in self._lexicon.ancestors[concept]

    def regions(self, a: str, b: str) -> float:
        """1 for the same place, less the further apart two places are."""
        if a == b:
            return 1.0
        weights, relation = self.weights, _relation(a, b)
        if relation == "chain":
            return weights.same_chain
        if relation == "sides":
            return weights.other_side
        return weights.same_family if relation == "family" else weights.apart

    def items(self, a: Item, b: Item) -> float:
        """The similarity of two items."""
        concepts = self.concepts if a.present or b.present else self.denials
        value = concepts(a.concept, b.concept) * self.regions(a.region, b.region)
        return value * _state_factor(a[2:], b[2:], self.weights)

    def matrix(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        """``items`` for every pair, float32 [n, n], without a Python call per pair."""
        weights = self.weights
        concepts, concept_at = _numbered([item.concept for item in items])
        regions, region_at = _numbered([item.region for item in items])
        by_concept = np.asarray([[self.concepts(a, b) for b in concepts] for a in concepts], np.float32)
        by_region = np.asarray([[self.regions(a, b) for b in regions] for a in regions], np.float32)
        by_denial = np.asarray([[self.denials(a, b) for b in concepts] for a in concepts], np.float32)
        denied = np.asarray([not item.present for item in items])
        value = np.where(
            denied[:, None] & denied[None, :],
            by_denial[np.ix_(concept_at, concept_at)],
            by_concept[np.ix_(concept_at, concept_at)],
        )
        value *= by_region[np.ix_(region_at, region_at)]
        state = [(item.present, item.severity, item.certain) for item in items]
        states, state_at = _numbered(state)
        table = np.ones((len(states), len(states)), np.float32)
        for i, a in enumerate(states):
            for j, b in enumerate(states):
                table[i, j] = _state_factor(a, b, weights)
        value *= table[np.ix_(state_at, state_at)]
        return value

    def weight(self, item: Item) -> float:
        """How much an item counts: an affirmed one far more than a denied one."""
        return 1.0 if item.present else self.weights.denied

    def score(self, a: Iterable[Item], b: Iterable[Item]) -> float | None:
        """The similarity of two sets of items; None where either is empty."""
        first, second = tuple(a), tuple(b)
        if not first or not second:
            return None
        return harmonic(self._directed(first, second), self._directed(second, first))

    def _directed(self, a: tuple[Item, ...], b: tuple[Item, ...]) -> float:
        weights = [self.weight(item) for item in a]
        best = [max(self.items(item, other) for other in b) for item in a]
        return sum(w * s for w, s in zip(weights, best, strict=True)) / sum(weights)


def _state_factor(a: tuple[bool, int, bool], b: tuple[bool, int, bool], weights: Weights) -> float:
    """The factor for differences in presence, severity and certainty (in this order) of two items."""
    if a[0] != b[0]:
        return weights.flip
    if not a[0]:
        return 1.0
    factor = 1.0 if a[2] == b[2] else weights.doubt
    if a[1] >= 0 and b[1] >= 0:
        return factor * (1 - weights.severity_step * abs(a[1] - b[1]))
    return factor * (weights.unsaid_severity if a[1] != b[1] else 1.0)


def _numbered(values: Sequence[_T]) -> tuple[list[_T], npt.NDArray[np.int64]]:
    """The distinct values in order of first appearance, and the number of each value."""
    number: dict[_T, int] = {}
    at = np.asarray([number.setdefault(value, len(number)) for value in values], np.int64)
    return list(number), at


def harmonic(a: float, b: float) -> float:
    """Harmonic mean, 0 where both are 0."""
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


@cache
def _relation(a: str, b: str) -> str:
    """How two different places are related: "chain" (one within the other), "sides", "family" or "apart"."""
    up_a, up_b = _upward(a), _upward(b)
    if a in up_b or b in up_a:
        return "chain"
    common = next(region for region in up_a if region in up_b)
    if common in ("chest", "mediastinum"):
        return "apart"
    sides = [anatomy.region(region).laterality for region in (a, b)]
    return "sides" if None not in sides and sides[0] != sides[1] else "family"


def report_similarity(
    a: MinedReport | Iterable[Finding],
    b: MinedReport | Iterable[Finding],
    region: str = anatomy.ROOT,
    similarity: ItemSimilarity | None = None,
) -> float | None:
    """Similarity of two reports under a region (default: the whole report); None where either says nothing there."""
    similarity = similarity or _default()
    return similarity.score(similarity_items(a).get(region, ()), similarity_items(b).get(region, ()))


@lru_cache(maxsize=1)
def _default() -> ItemSimilarity:
    return ItemSimilarity()
