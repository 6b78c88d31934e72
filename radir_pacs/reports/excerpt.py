"""The sentences of a report that say why a case is similar, with the words that say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from radir_pacs import anatomy
from radir_pacs.reports.findings import Finding, FindingKind, Polarity, Span
from radir_pacs.types import FindingNote

EXCERPT_CHARACTERS = 600
_GAP = " … "


class Mark(StrEnum):
    SHARED = "shared"
    CONTRADICTING = "contradicting"


@dataclass(frozen=True, kw_only=True)
class Marked:
    """Half-open offsets into the excerpt's text, and what stands there."""

    start: int
    end: int
    mark: Mark


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Text out of a report, verbatim but for " … " between sentences that are apart."""

    text: str
    marks: tuple[Marked, ...]


def excerpt(
    body: str,
    findings: Sequence[Finding],
    region: str,
    *,
    shared: Iterable[FindingNote] = (),
    contradicting: Iterable[FindingNote] = (),
) -> Excerpt:
    """What ``body`` says of the notes; where there is none, of the region (a key), of anything; else its beginning."""
    marked = _marked(findings, region, shared, contradicting)
    told = [finding for finding in findings if finding.span in marked]
    told = told or [f for f in findings if _meets(f, region)] or [f for f in findings if f.asserted]
    return _cut(body, sorted({finding.sentence for finding in told}) or [_beginning(body)], marked)


def whole_report(
    body: str,
    findings: Sequence[Finding],
    region: str,
    *,
    shared: Iterable[FindingNote] = (),
    contradicting: Iterable[FindingNote] = (),
) -> Excerpt:
    """All of ``body``, with the words that ``excerpt`` marks."""
    marked = _marked(findings, region, shared, contradicting)
    marks = (Marked(start=start, end=end, mark=mark) for (start, end), mark in sorted(marked.items()))
    return Excerpt(text=body, marks=tuple(marks))


def _marked(
    findings: Sequence[Finding], region: str, shared: Iterable[FindingNote], contradicting: Iterable[FindingNote]
) -> dict[Span, Mark]:
    """Where ``findings`` say what the notes say; what is shared counts over what contradicts."""
    return {
        **_spans(findings, region, tuple(contradicting), Mark.CONTRADICTING),
        **_spans(findings, region, tuple(shared), Mark.SHARED),
    }


def _spans(findings: Sequence[Finding], region: str, notes: tuple[FindingNote, ...], mark: Mark) -> dict[Span, Mark]:
    wanted = {(note.concept.replace(" ", "_"), note.polarity) for note in notes}
    return {
        finding.span: mark
        for finding in findings
        if (finding.concept, _polarity(finding)) in wanted and (_meets(finding, region) or _is_normal(finding))
    }


def _polarity(finding: Finding) -> str:
    return str(Polarity.PRESENT if finding.asserted else Polarity.ABSENT)


def _is_normal(finding: Finding) -> bool:
    return finding.kind is FindingKind.NORMAL


def _meets(finding: Finding, region: str) -> bool:
    """The finding is at the region, below it, or at one that holds it."""
    chain = {region, *(found.key for found in anatomy.ancestors(region))}
    below = {found.key for found in anatomy.descendants(region)}
    return any(key in chain or key in below for key in finding.regions)


def _beginning(body: str) -> Span:
    start = len(body) - len(body.lstrip())
    return (start, min(len(body), start + EXCERPT_CHARACTERS // 2))


def _cut(body: str, sentences: Sequence[Span], marked: dict[Span, Mark]) -> Excerpt:
    text, marks, last_end = "", [], 0
    for start, end in sentences:
        if text and len(text) + end - start > EXCERPT_CHARACTERS:
            text += _GAP.rstrip()
            break
        text += body[last_end:start] if text and not body[last_end:start].strip() else (_GAP if text else "")
        at = len(text) - start
        end = min(end, start + EXCERPT_CHARACTERS)
        text += body[start:end]
        marks += [
            Marked(start=first + at, end=last + at, mark=mark)
            for (first, last), mark in sorted(marked.items())
            if start <= first < last <= end
        ]
        last_end = end
    return Excerpt(text=text, marks=tuple(marks))
