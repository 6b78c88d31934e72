"""One noun for two sides or places, of which one is denied: "small right and no left effusion", "effusion right, left
none", "RUL but no RLL consolidation".

The noun is repeated, so that each has a statement of its own: "small right effusion and no left effusion".
"""

from __future__ import annotations

from itertools import pairwise

from radir_pacs.reports.findings import Laterality
from radir_pacs.reports.lexicon_terms import Cue
from radir_pacs.reports.marks import Mark

_PAIR = {Laterality.LEFT, Laterality.RIGHT}
_LINK = Cue.CONJUNCTION | Cue.COMMA | Cue.BREAK
_END = _LINK | Cue.THERE | Cue.SOFT_BREAK | Cue.COPULA
_NEGATES_LAST = Cue.NEGATES_LAST | Cue.CLOSES
_NEAR = 2
_NEGATES = Cue.NEGATES_NEXT | _NEGATES_LAST


def repeat_noun(marks: list[Mark]) -> None:
    """Add the noun to the side that has none; it stands where the mark before it does."""
    for at in range(len(marks) - 2, 0, -1):
        if not marks[at].cue & _LINK or marks[at].cue & Cue.ALTERNATIVE:
            continue
        stop, begin, end = at, at, at + 1
        while stop and marks[stop - 1].cue & _LINK:  # ", but"
            stop -= 1
        begin = stop
        while begin and not marks[begin - 1].cue & _END:
            begin -= 1
        while end < len(marks) and not marks[end].cue & _END:
            end += 1
        first, second = marks[begin:stop], marks[at:end]  # "and no" is a phrase of its own
        if _one_place_is_denied(first, second, marks[at]):
            _repeat_at_place(first, second, marks, stop, at, end)
            continue
        if not _one_is_denied(first, second):
            continue
        if any(mark.concept for mark in second) and not _is_told(first):
            marks[at].cue |= Cue.BREAK
            _add(_noun(second), marks, stop)
        elif any(mark.concept for mark in first) and not _is_told(second[1:]):
            said = max((i for i in range(at, end) if _speaks(marks[i])), default=None)
            if said is not None:
                marks[at].cue |= Cue.BREAK
                before = marks[said].cue & _NEGATES_LAST and not marks[said].cue & Cue.NEGATES_NEXT
                _add(_noun(first), marks, said if before else said + 1)


def _one_is_denied(first: list[Mark], second: list[Mark]) -> bool:
    """Whether each names one side, and the word "no" stands with one of them only."""
    sides = [{mark.side for mark in part} - {None} for part in (first, second)]
    if not (len(sides[0]) == len(sides[1]) == 1 and sides[0] | sides[1] == _PAIR):
        return False
    denied = [any(mark.cue & _NEGATES for mark in part) for part in (first, second)]
    return denied[1] != denied[0] and (denied[1] or any(_speaks(mark) for mark in second))


def _one_place_is_denied(first: list[Mark], second: list[Mark], link: Mark) -> bool:
    """Whether each names a place, one of them has the noun, and the word "no" stands with one only."""
    if not all(_is_sided_place(part) for part in (first, second)):
        return False
    named = [any(mark.concept for mark in part) for part in (first, second)]
    if named[0] == named[1] or any(mark.attribute and not _speaks(mark) for mark in (*first, *second)):
        return False
    if link.cue & Cue.COMMA and not (named[0] and second[1].cue & Cue.NEGATES_NEXT):  # ", not in the left lower lobe"
        return False
    denied = [any(mark.cue & Cue.NEGATES_NEXT for mark in part) for part in (first, second)]
    return denied[1] != denied[0] and (denied[1] or bool(link.cue & Cue.BREAK))


def _is_sided_place(part: list[Mark]) -> bool:
    """Whether it names a place of one side, "left lower lobe" or "LLL"; words that the lexicon doesn't know, an article
    aside, may say anything."""
    dense = all(after.first - before.last <= _NEAR for before, after in pairwise(part))
    sided = any(mark.side in _PAIR or (mark.place or "").startswith(("left_", "right_")) for mark in part)
    return dense and sided and any(mark.place for mark in part)


def _repeat_at_place(first: list[Mark], second: list[Mark], marks: list[Mark], stop: int, at: int, end: int) -> None:
    marks[at].cue |= Cue.BREAK
    if any(mark.concept for mark in second):
        _add([mark for mark in second if mark.concept], marks, stop)
    else:
        if end < len(marks) and marks[end].cue & Cue.COMMA:
            marks[end].cue |= Cue.BREAK  # what follows is said anew
        _add([mark for mark in first if mark.concept], marks, end)


def _speaks(mark: Mark) -> bool:
    """Whether a word says that something is there, or not: "small", "no"; an article may say it too."""
    return bool(mark.entry.severity or mark.cue & (_NEGATES | Cue.ARTICLE))


def _is_told(part: list[Mark]) -> bool:
    """Whether there is something that the side may belong to already."""
    return any(mark.concept or mark.place or (mark.attribute and not _speaks(mark)) for mark in part)


def _noun(part: list[Mark]) -> list[Mark]:
    return [mark for mark in part if (mark.concept or mark.place) and mark.side is None]


def _add(noun: list[Mark], marks: list[Mark], at: int) -> None:
    before = marks[at - 1]
    marks[at:at] = [Mark(mark.entry, before.last, before.last, before.start, before.end) for mark in noun]
