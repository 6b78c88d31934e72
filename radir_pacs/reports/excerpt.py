"""The sentences of a report that say why a case is similar, with the words that say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from radir_pacs import anatomy
from radir_pacs.reports.findings import Finding, FindingKind, Polarity, Span
from radir_pacs.reports.markup import plain_text
from radir_pacs.similar_cases import FindingNote

EXCERPT_CHARACTERS = 600
_GAP = " … "


class Highlight(StrEnum):
    SHARED = "shared"
    CONTRADICTING = "contradicting"


_Means = dict[Span, tuple[Highlight, bool]]  # with whether it is denied there


@dataclass(frozen=True, kw_only=True)
class Marked:
    """Half-open offsets into the excerpt's text, and what the text there means.

    absent: what stands there is denied, by words beside it ("pneumothorax" of "no pneumothorax").
    """

    start: int
    end: int
    mark: Highlight
    absent: bool = False


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Text from a report, verbatim except for " … " between sentences that are not adjacent."""

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
    """What ``body`` says about the notes; failing that, about the region (a key), then about what contains the region.

    Empty where the report says nothing about it. It ends with a whole sentence unless a single sentence is too long.
    """
    body = plain_text(body)
    marked = _marked(findings, region, shared, contradicting)
    told = [finding for finding in findings if finding.span in marked]
    told = told or [f for f in findings if _within(f, region)] or [f for f in findings if _meets(f, region)]
    return _cut(body, sorted({finding.sentence for finding in told}), marked)


def whole_report(
    body: str,
    findings: Sequence[Finding],
    region: str,
    *,
    shared: Iterable[FindingNote] = (),
    contradicting: Iterable[FindingNote] = (),
) -> Excerpt:
    """All of ``body``, with the same words marked as in ``excerpt``."""
    marked = _marked(findings, region, shared, contradicting)
    marks = (Marked(start=start, end=end, mark=mark, absent=no) for (start, end), (mark, no) in sorted(marked.items()))
    return Excerpt(text=plain_text(body), marks=tuple(marks))


def _marked(
    findings: Sequence[Finding], region: str, shared: Iterable[FindingNote], contradicting: Iterable[FindingNote]
) -> _Means:
    """Where ``findings`` say what the notes say; a shared note wins over a contradicting one."""
    return {
        **_spans(findings, region, tuple(contradicting), Highlight.CONTRADICTING),
        **_spans(findings, region, tuple(shared), Highlight.SHARED),
    }


def _spans(findings: Sequence[Finding], region: str, notes: tuple[FindingNote, ...], mark: Highlight) -> _Means:
    wanted = {(note.concept, note.polarity) for note in notes}
    denied_at = {note.region for note in notes if note.polarity == Polarity.ABSENT}
    return {
        finding.span: (mark, finding.polarity is Polarity.ABSENT and not _is_normal(finding))
        for finding in findings
        if ((finding.concept, _polarity(finding)) in wanted and (_meets(finding, region) or _is_normal(finding)))
        or (_is_normal(finding) and not denied_at.isdisjoint(finding.regions))
    }


def _polarity(finding: Finding) -> str:
    return str(Polarity.PRESENT if finding.asserted else Polarity.ABSENT)


def _is_normal(finding: Finding) -> bool:
    return finding.kind is FindingKind.NORMAL


def _within(finding: Finding, region: str) -> bool:
    """Whether the finding is at the region or below it."""
    below = {region, *(found.key for found in anatomy.descendants(region))}
    return not below.isdisjoint(finding.regions)


def _meets(finding: Finding, region: str) -> bool:
    """Whether the finding is at the region, below it, or at a region that contains it."""
    chain = {region, *(found.key for found in anatomy.ancestors(region))}
    below = {found.key for found in anatomy.descendants(region)}
    return any(key in chain or key in below for key in finding.regions)


def _cut(body: str, sentences: Sequence[Span], marked: _Means) -> Excerpt:
    text, marks, last_end = "", [], 0
    for start, end in sentences:
        if text and len(text) + end - start > EXCERPT_CHARACTERS:
            text += _GAP.rstrip()
            break
        text += body[last_end:start] if text and not body[last_end:start].strip() else (_GAP if text else "")
        at = len(text) - start
        end, whole = _word_end(body, start, min(end, start + EXCERPT_CHARACTERS)), end
        text += body[start:end]
        marks += [
            Marked(start=first + at, end=last + at, mark=mark, absent=absent)
            for (first, last), (mark, absent) in sorted(marked.items())
            if start <= first < last <= end
        ]
        if end < whole:
            text += _GAP.rstrip()
            break
        end = _with_stop(body, whole)
        text += body[whole:end]
        last_end = end
    return Excerpt(text=text, marks=tuple(marks))


def _word_end(body: str, start: int, end: int) -> int:
    """``end``, or the end of the last whole word before it."""
    if end >= len(body) or not body[end].isalnum():
        return end
    space = body.rfind(" ", start, end)
    return space if space > start else end


def _with_stop(body: str, end: int) -> int:
    return end + 1 if body[end : end + 1] in {".", "!", "?"} else end
