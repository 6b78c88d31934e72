"""From one sentence to its statements, in offsets of that sentence."""

from __future__ import annotations

import re
from typing import NamedTuple

from radir_pacs.reports.answers import PARTED, answered
from radir_pacs.reports.asides import Aside, without_asides, without_sided_comparisons
from radir_pacs.reports.findings import Certainty, Change, Finding, FindingKind, Laterality, Span
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import Cue
from radir_pacs.reports.locating import regions_of
from radir_pacs.reports.marks import read_marks
from radir_pacs.reports.qualities import first_change, shown_on
from radir_pacs.reports.shared_noun import repeat_noun
from radir_pacs.reports.statements import Parts, read_statements

_SIGNATURE_WORDS = 6
_NOT_PROSE = re.compile(r"[\d:=?|(\[\n\t+–—-]")  # every aside and everything that parts an answer has one of these
_PRONOUN = Cue.PRONOUN
_NORMAL, _HYPOTHETICAL = FindingKind.NORMAL, Certainty.HYPOTHETICAL  # slow to look up in an Enum


class SentenceReading(NamedTuple):
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
    prose = _NOT_PROSE.search(text) is None
    images: list[Aside] = []
    dates: list[Aside] = []
    if not prose:
        text, images, dates = without_asides(text, lexicon)
    text = without_sided_comparisons(text, lexicon)
    marks = read_marks(text, lexicon)
    if marks and not prose and PARTED.search(text):
        marks = answered(text, marks, lexicon)
    if not marks:
        return _NOTHING
    if len([mark for mark in marks if mark.side is not None or mark.place is not None]) > 1:
        repeat_noun(marks)
    prior = dates[0].what if dates else None
    parts = Parts(marks, lexicon)
    refers = bool(marks[0].cue & _PRONOUN)
    findings, unplaced = read_statements(parts, prior, measures=not refers)
    if images and findings:
        shown_on(images, findings)
    if refers and not findings:
        return _more_of_the_last(parts, tuple(image.what for image in images), prior)
    if refers and any(finding.kind is not _NORMAL for finding in findings):
        return SentenceReading(tuple(findings), unplaced)
    return SentenceReading(tuple(findings))


def _says_nothing(text: str, lexicon: Lexicon) -> bool:
    """A box that nobody ticked, a label that nobody filled in, or a sentence about the text and not the patient: how
    it was dictated, or a signature, "Dr. Mass, MD".

    A longer sentence may say what somebody was told: "Dr. Lee was notified of the left lung mass".
    """
    if text.startswith("[ ]") or (text.endswith(":") and text.count(":") == 1):
        return True
    for sign in lexicon.boilerplate:
        if sign in text:
            return True
    return text.startswith(lexicon.signed) and len(text.split()) <= _SIGNATURE_WORDS


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
    concept, kind, polarity, certainty, regions, side, severity, size, change, images, dated, (start, end), _, _ = (
        finding
    )
    return Finding(  # not by name nor `_replace`, which take twice the time
        concept,
        kind,
        polarity,
        _HYPOTHETICAL if asked else certainty,
        regions,
        side,
        severity,
        size,
        change,
        images,
        dated or (prior if change is not None else None),
        (start + by, end + by),
        sentence,
        section,
    )
