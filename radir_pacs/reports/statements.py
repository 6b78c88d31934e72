"""The statements of one sentence: every finding in it with its state, its place and its qualities."""

from __future__ import annotations

from operator import attrgetter

from radir_pacs.reports.findings import Certainty, Finding, FindingKind, Laterality, Polarity, Span
from radir_pacs.reports.forming import form
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import MEASUREMENT, ROOT, Concept, Cue
from radir_pacs.reports.locating import (
    framed,
    inherited,
    nearer,
    on_side,
    regions_of,
    side_of_neighbour,
)
from radir_pacs.reports.marks import Mark
from radir_pacs.reports.placing import Place, fronted, places_of, read_places, side_before, side_beside
from radir_pacs.reports.qualities import change_at, severity_at, size_at
from radir_pacs.reports.scope import Scopes

_OPERATION = "postoperative"  # the concept of what operations leave
_BREAK = Cue.BREAK
_NOT_ABSORBED = Cue.BREAK | Cue.THERE | Cue.SOFT_BREAK | Cue.COPULA | Cue.COMMA | Cue.CONJUNCTION
_NORMAL, _DEVICE = FindingKind.NORMAL, FindingKind.DEVICE  # slow to look up in an Enum
_SPAN = attrgetter("span")
_NONE: frozenset[Span] = frozenset()
_PRESENT, _ABSENT, _HISTORICAL = Polarity.PRESENT, Polarity.ABSENT, Certainty.HISTORICAL


class Parts:
    """The marks of one sentence and what they are for each other: how each is meant, places, sides of findings."""

    __slots__ = ("lexicon", "located", "marks", "places", "scopes", "sides")

    def __init__(self, marks: list[Mark], lexicon: Lexicon) -> None:
        self.marks, self.lexicon = marks, lexicon
        self.scopes = Scopes(marks)
        self.places, self.sides = read_places(marks, lexicon)
        self.located = {place.index: place for place in self.places if place.key not in lexicon.unlocated}


def read_statements(parts: Parts, prior: str | None, *, measures: bool) -> tuple[list[Finding], frozenset[Span]]:
    """The findings in text order, and the spans of those that have no place or side of their own.

    prior: the date that a change is against. measures: whether a size of a place alone is a measurement.
    """
    marks, lexicon, scopes = parts.marks, parts.lexicon, parts.scopes
    formed, normal = form(marks, scopes, parts.places, lexicon)
    graded = sized = changed = False
    for mark in marks:
        graded = graded or mark.entry.severity is not None
        sized = sized or mark.size_mm is not None
        changed = changed or mark.change is not None or mark.prior_mm is not None
    findings: list[Finding] = []
    unplaced: list[Span] = []
    placed: dict[int, list[Place]] = {}
    for i, mark in enumerate(marks):
        key, own, denied = mark.concept, None, scopes.denied[i]
        if i in formed:
            key, own, denied = formed[i]
        elif key is None or (mark.attribute is not None and (i in normal or _absorbed(i, marks, lexicon))):
            continue
        concept = lexicon.concepts[key]
        where = own or places_of(i, concept, marks, parts.located)
        if concept.elsewhere and where and where[0].region in concept.elsewhere:
            key = concept.elsewhere[where[0].region]
            if not key:
                continue
            concept = lexicon.concepts[key]
        certainty = scopes.certainty[i]
        if certainty is _HISTORICAL and lexicon.devices_remain and _remains(concept, lexicon):
            certainty = Certainty.CERTAIN
        where, side = _place_and_side(i, concept, where, denied, parts, placed, findings)
        regions, laterality = regions_of(where, side, concept, lexicon)
        if not where and side is None:
            unplaced.append((mark.start, mark.end))
        change = change_at(marks, i) if changed else None
        findings.append(
            Finding(
                concept=key,
                kind=_NORMAL if key == ROOT and denied else concept.kind,
                polarity=_ABSENT if denied else _PRESENT,
                certainty=certainty,
                regions=regions,
                laterality=laterality,
                severity=severity_at(marks, i) if graded else None,
                size_mm=size_at(marks, i) if sized else None,
                change=change,
                prior=prior if change is not None else None,
                span=(mark.start, mark.end),
            )
        )
    for i, subjects in normal.items():
        findings.append(_normal(i, subjects, parts))
    if sized and measures:
        findings += _measurements(parts, findings)
    if len(findings) > 1:
        findings.sort(key=_SPAN)
    return findings, frozenset(unplaced) if unplaced else _NONE


def _place_and_side(
    i: int,
    concept: Concept,
    where: list[Place],
    denied: bool,
    parts: Parts,
    placed: dict[int, list[Place]],
    findings: list[Finding],
) -> tuple[list[Place], Laterality | None]:
    """Where the finding at mark ``i`` is, from its own ``where`` to that of its neighbours; ``placed`` is kept up."""
    marks, mark = parts.marks, parts.marks[i]
    side, inner = parts.sides.get(i), mark.entry.inner
    if inner is not None and (not where or concept.kind is _DEVICE):
        own_side = side or (Laterality.BILATERAL if mark.both else None)
        where = [Place(i, inner, parts.lexicon.place_region[inner], own_side, False), *where]
    if not where and parts.located:
        where = on_side(side, nearer(fronted(i, concept, marks, parts.located), concept))
    if where:
        where = framed(i, where, marks, parts.places, parts.lexicon) or where
        placed[i] = where
        return where, side
    where = inherited(i, concept, marks, placed, denied, parts.scopes, side)
    if where:
        return where, side
    return where, (
        side
        or side_before(i, concept, marks, parts.places, parts.lexicon)
        or side_beside(i, marks, parts.places)
        or side_of_neighbour(i, marks, findings, denied)
    )


def _absorbed(i: int, marks: list[Mark], lexicon: Lexicon) -> bool:
    """Whether the finding that follows in the noun phrase absorbs this attribute: "calcified left hilar granuloma"."""
    for mark in marks[i + 1 :]:
        if mark.cue & _NOT_ABSORBED:
            return False
        if mark.concept is not None:
            return marks[i].attribute in lexicon.concepts[mark.concept].absorbs
    return False


def _remains(concept: Concept, lexicon: Lexicon) -> bool:
    """Whether what was done to a patient is still there: a device, or what an operation left."""
    return concept.kind is _DEVICE or _OPERATION in lexicon.ancestors[concept.key]


def _normal(i: int, subjects: list[Place], parts: Parts) -> Finding:
    """The statement that places are normal: "lungs are clear"."""
    mark = parts.marks[i]
    regions, laterality = regions_of(subjects, None, None, parts.lexicon)
    return Finding(
        concept=ROOT,
        kind=_NORMAL,
        polarity=_ABSENT,
        certainty=parts.scopes.certainty[i],
        regions=regions,
        laterality=laterality,
        span=(mark.start, mark.end),
    )


def _measurements(parts: Parts, findings: list[Finding]) -> list[Finding]:
    """Sizes of places: "the ascending aorta measures 41 mm", where no finding of the clause has the size."""
    measured: list[Finding] = []
    marks, unlocated = parts.marks, parts.lexicon.unlocated
    sized = {finding.size_mm for finding in findings}
    for i, mark in enumerate(marks):
        if mark.size_mm is None or mark.size_mm in sized:
            continue
        start = max((j + 1 for j in range(i) if marks[j].cue & _BREAK), default=0)
        before = [place for place in parts.places if start <= place.index < i and place.key not in unlocated]
        if not before or any(marks[j].concept for j in range(start, i)):
            continue
        regions, laterality = regions_of(before[-1:], None, None, parts.lexicon)
        measured.append(
            Finding(
                concept=MEASUREMENT,
                kind=FindingKind.MEASUREMENT,
                polarity=_PRESENT,
                certainty=parts.scopes.certainty[i],
                regions=regions,
                laterality=laterality,
                size_mm=mark.size_mm,
                span=(mark.start, mark.end),
            )
        )
    return measured
