"""What a sentence says of a finding beside its place: degree, size, change, the images that show it."""

from __future__ import annotations

from radir_pacs.reports.asides import Aside
from radir_pacs.reports.findings import Change, Finding, Severity
from radir_pacs.reports.lexicon_terms import Cue
from radir_pacs.reports.marks import Mark
from radir_pacs.reports.sizes import change_of_size

_BREAK = Cue.BREAK
_COPULA = Cue.COPULA
_COMMA = Cue.COMMA
_CLAUSE_ENDS = Cue.BREAK | Cue.THERE
_BEFORE_ENDS = Cue.BREAK | Cue.SOFT_BREAK
_DEGREE_ENDS = Cue.BREAK | Cue.THERE | Cue.COMMA


def severity_at(marks: list[Mark], i: int) -> Severity | None:
    """The nearest degree word before the finding in its noun phrase, or between the subject and its attribute."""
    if marks[i].entry.severity is not None and marks[i].attribute is None:
        return marks[i].entry.severity
    for j in range(i - 1, -1, -1):
        mark = marks[j]
        if mark.entry.severity is not None:
            return mark.entry.severity
        if mark.concept or mark.cue & _DEGREE_ENDS:
            break
    for mark in marks[i + 1 : i + 3]:
        if mark.entry.severity is not None and mark.attribute is None:
            return mark.entry.severity
        if not mark.cue & _COPULA:
            break
    return None


def size_at(marks: list[Mark], i: int) -> float | None:
    """The measurement nearest to the finding, with no other finding in between."""
    apart = named = False  # the size by a comma, behind which another place or side is named
    for j in range(i - 1, -1, -1):
        mark = marks[j]
        if mark.size_mm is not None:
            if apart and _is_of_place(marks, j) and (named or _has_own_size(marks, i)):
                break  # "aorta 41 mm, right effusion", "aorta 41 mm, effusion 2 cm"
            return mark.size_mm
        if mark.concept or mark.cue & _BEFORE_ENDS:
            break  # "a mass of 3 cm with atelectasis"
        if mark.cue & _COMMA:
            apart = True
        elif not apart and (mark.place or mark.side):
            named = True
    parted = False
    for mark in marks[i + 1 :]:
        if mark.size_mm is not None:
            return mark.size_mm
        parted = parted or bool(mark.cue & _BREAK)
        if mark.concept or (parted and mark.place):
            break  # "a nodule; size 9 mm", but "a nodule; the aorta measures 40 mm"
    return None


def _is_of_place(marks: list[Mark], size: int) -> bool:
    """Whether a size follows the place that it measures: "ascending aorta 41 mm", "aorta measures 41 mm"."""
    for j in range(size - 1, -1, -1):
        mark = marks[j]
        if mark.place is not None:
            return True
        if not (mark.cue & _COPULA or mark.side):
            return False
    return False


def _has_own_size(marks: list[Mark], i: int) -> bool:
    """Whether a size follows the finding before the next comma, clause or finding."""
    for mark in marks[i + 1 :]:
        if mark.size_mm is not None:
            return True
        if mark.concept or mark.cue & (_BEFORE_ENDS | _COMMA):
            return False
    return False


def change_at(marks: list[Mark], i: int) -> Change | None:
    """The nearest word of change in the clause, else what the sizes tell."""
    for near in (range(i - 1, -1, -1), range(i + 1, len(marks))):
        for j in near:
            mark = marks[j]
            if mark.change is not None:
                return mark.change
            if mark.concept or mark.cue & _CLAUSE_ENDS:
                break
    return _change_of_sizes(marks, i)


def _change_of_sizes(marks: list[Mark], i: int) -> Change | None:
    """What the sizes tell: "9 mm, previously 6 mm"."""
    size = size_at(marks, i)
    for near in (range(i + 1, len(marks)), range(i - 1, -1, -1)):
        for j in near:
            prior = marks[j].prior_mm
            if prior is not None and size is not None:
                return change_of_size(size, prior)
            if marks[j].concept:
                break
    return None


def first_change(marks: list[Mark], size: float | None, before: float | None) -> Change | None:
    """The first word of change in a sentence without findings, else what its size and the one before tell."""
    change = next((mark.entry.change for mark in marks if mark.entry.change is not None), None)
    if change is None and size is not None and before is not None:
        return change_of_size(size, before)
    return change


def shown_on(images: list[Aside], findings: list[Finding]) -> None:
    """Give every image to the finding before it, or to the first one."""
    for image in images:
        before = [n for n, finding in enumerate(findings) if finding.span[0] < image.start]
        at = before[-1] if before else 0
        findings[at] = findings[at]._replace(images=(*findings[at].images, image.what))
