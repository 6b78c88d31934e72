"""The quality of mining: labels, regions and sides against human codes, each with its counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from radir_pacs import anatomy
from radir_pacs.reports.findings import Finding, Laterality
from radir_pacs.reports.labels import LabelSet
from radir_pacs.reports.lexicon import Lexicon

from .mesh import Code


@dataclass(slots=True)
class Counts:
    """True and false positives and false negatives."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def f1(self) -> float:
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp + self.fp + self.fn else float("nan")

    @property
    def precision(self) -> float:
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else float("nan")

    @property
    def recall(self) -> float:
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else float("nan")

    def __iadd__(self, other: Counts) -> Counts:
        self.tp, self.fp, self.fn = self.tp + other.tp, self.fp + other.fp, self.fn + other.fn
        return self


@dataclass(slots=True)
class LabelScore:
    """Counts per label, and the averages over labels."""

    by_label: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))

    def add(self, predicted: Mapping[str, int], gold: Mapping[str, int]) -> None:
        for label, said in predicted.items():
            counts = self.by_label[label]
            counts.tp += bool(said and gold[label])
            counts.fp += bool(said and not gold[label])
            counts.fn += bool(gold[label] and not said)

    @property
    def micro(self) -> Counts:
        total = Counts()
        for counts in self.by_label.values():
            total += counts
        return total

    def macro_f1(self, labels: Iterable[str] | None = None) -> float:
        """Mean F1 of the labels that have a positive here (or of those named)."""
        scores = [
            counts.f1
            for label, counts in self.by_label.items()
            if (labels is None or label in labels) and counts.tp + counts.fn > 0
        ]
        return sum(scores) / len(scores) if scores else float("nan")


def label_score(pairs: Iterable[tuple[tuple[Finding, ...], Mapping[str, int]]], labels: LabelSet) -> LabelScore:
    """Score findings against gold labels; a pair is a report's findings and its gold."""
    score = LabelScore()
    for findings, gold in pairs:
        score.add(labels.of(findings), gold)
    return score


@dataclass(slots=True)
class PlaceScore:
    """Regions and sides of findings whose concept both the coder and we have, in the same report."""

    regions: Counts = field(default_factory=Counts)
    sides_right: int = 0
    sides: int = 0
    misses: Counter[str] = field(default_factory=Counter)
    extra: Counter[str] = field(default_factory=Counter)

    @property
    def side_accuracy(self) -> float:
        return self.sides_right / self.sides if self.sides else float("nan")


def score_places(findings: Iterable[Finding], codes: Iterable[Code], lexicon: Lexicon, score: PlaceScore) -> None:
    """Add one report. A concept whose codes name no place is not compared, nor one that only the coder or only we have.

    A place is right if it is the coder's, in the wording of the report or of the code (an "upper lobe" that the report
    calls "upper lung zone"). A side counts where both name one.
    """
    by_head: dict[frozenset[str], list[Code]] = defaultdict(list)
    for code in codes:
        by_head[code.concepts].append(code)
    asserted = [finding for finding in findings if finding.asserted]
    for concepts, group in by_head.items():
        ours = [finding for finding in asserted if finding.concept in concepts]
        if not ours:
            continue
        wanted = list(dict.fromkeys(place for code in group for place in code.places))
        said = {region for finding in ours for region in finding.regions}
        if wanted and all(code.places for code in group):
            found = [place for place in wanted if place & said]
            right = {region for region in said if any(region in place for place in wanted)}
            right |= {above.key for region in said for above in anatomy.ancestors(region)}  # repeated, less exactly
            score.regions += Counts(tp=len(found), fn=len(wanted) - len(found), fp=len(said - right))
            for region in sorted(said - right):
                score.extra[f"{group[0].head}: {region} beside {sorted(min(place) for place in wanted)}"] += 1
            for place in wanted:
                if not place & said:
                    score.misses[f"{group[0].head}: {sorted(place)} read as {sorted(said)}"] += 1
        gold_sides = _sides(code.side for code in group)
        our_sides = _sides(finding.laterality for finding in ours)
        if gold_sides and our_sides:
            score.sides += 1
            score.sides_right += gold_sides == our_sides


def _sides(sides: Iterable[Laterality | None]) -> frozenset[Laterality]:
    found = {side for side in sides if side is not None}
    return frozenset({Laterality.LEFT, Laterality.RIGHT}) if Laterality.BILATERAL in found else frozenset(found)
