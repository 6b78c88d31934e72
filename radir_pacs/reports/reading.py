"""From one sentence to its statements, in offsets of that sentence."""

from __future__ import annotations

from dataclasses import dataclass

from radir_pacs.reports.answers import PARTED, answered
from radir_pacs.reports.asides import without_asides, without_sided_comparisons
from radir_pacs.reports.findings import Certainty, Change, Finding, FindingKind, Laterality, Span
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import Cue
from radir_pacs.reports.locating import regions_of
from radir_pacs.reports.marks import read_marks
from radir_pacs.reports.qualities import first_change, shown_on
from radir_pacs.reports.statements import Parts, read_statements

_SIGNATURE_WORDS = 6
_PRONOUN = Cue.PRONOUN
_NORMAL = FindingKind.NORMAL  # slow to look up in an Enum


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceReading:
    """Findings of a sentence, and what it refers to in the sentence before ("This measures 5 mm.")."""

    findings: tuple[Finding, ...]
    unplaced: frozenset[Span] = frozenset()  # "These may be atelectasis": findings where the last sentence's are
    refers_back: bool = False  # "This measures 5 mm": nothing but more about the last finding
    regions: tuple[str, ...] = ()  # of what it refers to, as all that follows
    laterality: Laterality | None = None
    size_mm: float | None = None
    change: Change | None = None
    images: tuple[str, ...] = ()
    prior: str | None = None


_NOTHING = SentenceReading(findings=())


def read_sentence(text: str, lexicon: Lexicon) -> SentenceReading:
    """Read one sentence; the findings' spans are relative to its start."""
    if _says_nothing(text, lexicon):
        return _NOTHING
    text, images, dates = without_asides(text, lexicon)
    text = without_sided_comparisons(text, lexicon)
    marks = read_marks(text, lexicon)
    if marks and PARTED.search(text):
        marks = answered(text, marks, lexicon)
    if not marks:
        return _NOTHING
    prior = dates[0].what if dates else None
    parts = Parts(marks, lexicon)
    refers = bool(marks[0].cue & _PRONOUN)
    findings, unplaced = read_statements(parts, prior, measures=not refers)
    if images and findings:
        shown_on(images, findings)
    if refers and not findings:
        return _more_of_the_last(parts, tuple(image.what for image in images), prior)
    said = any(finding.kind is not _NORMAL for finding in findings)
    return SentenceReading(findings=tuple(findings), unplaced=unplaced if refers and said else frozenset())


def _says_nothing(text: str, lexicon: Lexicon) -> bool:
    """A box that nobody ticked, a label that nobody filled in, or a sentence about the text and not the patient: how
    it was dictated, or a signature, "Dr. Mass, MD".

    A longer sentence may say what somebody was told: "Dr. Lee was notified of the left lung mass".
    """
    if text.startswith("[ ]") or (text.endswith(":") and text.count(":") == 1):
        return True
    boilerplate = lexicon.data["cues"].get("boilerplate", {})
    for sign in boilerplate.get("signs", ()):
        if sign in text:
            return True
    return text.startswith(tuple(boilerplate.get("starts", ()))) and len(text.split()) <= _SIGNATURE_WORDS


def _more_of_the_last(parts: Parts, images: tuple[str, ...], prior: str | None) -> SentenceReading:
    """What a sentence without findings says of the one before: "It measures 5 mm in the right apex."."""
    marks = parts.marks
    regions, laterality = regions_of(parts.places, None, None, parts.lexicon)
    size = max((mark.size_mm for mark in marks if mark.size_mm is not None), default=None)
    before = max((mark.prior_mm for mark in marks if mark.prior_mm is not None), default=None)
    return SentenceReading(
        findings=(),
        refers_back=True,
        regions=regions,
        laterality=laterality,
        size_mm=size,
        change=first_change(marks, size, before),
        images=images,
        prior=prior,
    )


def shifted(
    finding: Finding, by: int, sentence: tuple[int, int], section: str, asked: bool, prior: str | None
) -> Finding:
    """The finding with offsets into the whole text; ``prior``: what the report is compared with."""
    return Finding(  # not `replace`, which would take a third of the time for a report of known sentences
        concept=finding.concept,
        kind=finding.kind,
        polarity=finding.polarity,
        certainty=Certainty.HYPOTHETICAL if asked else finding.certainty,
        regions=finding.regions,
        laterality=finding.laterality,
        severity=finding.severity,
        size_mm=finding.size_mm,
        change=finding.change,
        images=finding.images,
        prior=finding.prior or (prior if finding.change is not None else None),
        span=(finding.span[0] + by, finding.span[1] + by),
        sentence=sentence,
        section=section,
    )
