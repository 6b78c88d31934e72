"""How each mark of a sentence is meant: denied, doubted, history or question, by the cues before and after it.

The rules are NegEx and ConText (Chapman 2001, Harkema 2009) in spirit, with clause ends, enumerations and
pseudo-negations of radiology reports; docs/results/mining.md compares them with a library.
"""

from __future__ import annotations

from radir_pacs.reports.findings import Certainty, Change
from radir_pacs.reports.lexicon_terms import Cue
from radir_pacs.reports.marks import Mark

_CLAUSE_END = Cue.BREAK | Cue.THERE
_DOUBT = {kind: rank for rank, kind in enumerate(Certainty)}
_REMAINS = (Change.STABLE, Change.WORSE, Change.BETTER)
_COPULA = Cue.COPULA
_NEXT = Cue.NEGATES_NEXT
_LAST = Cue.NEGATES_LAST
_ACTS_FORWARD = _NEXT | Cue.CLOSES | Cue.POSSIBLE_NEXT | Cue.PROBABLE_NEXT | Cue.HISTORY_NEXT | Cue.QUESTION
_ACTS_BACKWARD = _LAST | Cue.CLOSES | Cue.COPULA | Cue.POSSIBLE_LAST | Cue.PROBABLE_LAST | Cue.HISTORY_LAST
_NOT_NOW = (Certainty.HISTORICAL, Certainty.HYPOTHETICAL)
_CERTAIN, _HISTORICAL = Certainty.CERTAIN, Certainty.HISTORICAL  # an attribute of an Enum is slow to look up


class Scopes:
    """``denied[i]`` and ``certainty[i]`` of every mark i."""

    __slots__ = ("certainty", "denied")

    def __init__(self, marks: list[Mark]) -> None:
        self.denied = [False] * len(marks)
        self.certainty = [_CERTAIN] * len(marks)
        cues = 0
        for mark in marks:
            cues |= mark.cue
        if cues & _ACTS_FORWARD:
            self._forward(marks)
        if cues & _ACTS_BACKWARD:
            self._backward(marks)

    def _forward(self, marks: list[Mark]) -> None:
        denied, certainty, in_question = False, _CERTAIN, False
        for i, mark in enumerate(marks):
            cue = mark.cue
            if cue:
                if cue & _CLAUSE_END:
                    denied = in_question = False
                    certainty = _CERTAIN
                elif cue & Cue.SOFT_BREAK:
                    denied = False
                if denied and (
                    (cue & Cue.COMMA and _opens_statement(marks, i))
                    or (cue & Cue.CONJUNCTION and not cue & Cue.ALTERNATIVE and _changes_side(marks, i))
                ):
                    denied = False
                if cue & Cue.APART:
                    denied = False
                elif cue & _NEXT and not (
                    (cue & _LAST and _looks_back(marks, i)) or (cue & Cue.CLOSES and _closes(marks, i))
                ):
                    denied = True
                if cue & Cue.POSSIBLE_NEXT:
                    certainty = Certainty.POSSIBLE
                    if cue & Cue.CONJUNCTION:  # "atelectasis versus pneumonia" doubts both
                        self._doubt_last(marks, i, Certainty.PROBABLE, only_nearest=True)
                elif cue & Cue.PROBABLE_NEXT and certainty is not Certainty.POSSIBLE:
                    certainty = Certainty.PROBABLE
                elif cue & Cue.HISTORY_NEXT:
                    certainty = _HISTORICAL
                elif cue & Cue.COMMA and certainty is _HISTORICAL:
                    certainty = _CERTAIN
                if cue & Cue.QUESTION:
                    in_question = True
            self.denied[i] = denied
            self.certainty[i] = Certainty.HYPOTHETICAL if in_question else certainty

    def _backward(self, marks: list[Mark]) -> None:
        after_verb = False
        for i, mark in enumerate(marks):
            cue = mark.cue
            met, after_verb = after_verb, bool(cue & _COPULA)
            if not (met or cue & _ACTS_BACKWARD):
                continue
            if cue & (_LAST | Cue.CLOSES) and _of_the_other_side(marks, i):
                continue
            if cue & Cue.CLOSES and _closes(marks, i):
                for j in _closed(marks, i):
                    self.denied[j] = True
            if cue & _LAST and (not cue & _NEXT or _looks_back(marks, i)):
                for j in _one_statement(_subjects(marks, i), marks):
                    self.denied[j] = True
                    if self.certainty[j] in _NOT_NOW:
                        self.certainty[j] = _CERTAIN  # "the previously noted effusion is not seen" speaks of now
            if mark.change is not None and mark.change in _REMAINS and i and marks[i - 1].cue & Cue.COPULA:
                for j in _subjects(marks, i):  # "the previously described nodule is again seen"
                    if self.certainty[j] is _HISTORICAL:
                        self.certainty[j] = _CERTAIN
            if mark.attribute == "normal" and i and marks[i - 1].cue & Cue.COPULA:
                named = (j for j in _subjects(marks, i) if marks[j].concept or marks[j].attribute or marks[j].place)
                subject = next(named, None)
                if subject is not None and not marks[subject].place and marks[subject].attribute != "normal":
                    # "vascular engorgement is within normal limits"
                    self.denied[subject] = self.denied[subject] or not marks[subject].entry.device
            if cue & Cue.POSSIBLE_LAST:
                self._doubt_last(marks, i, Certainty.POSSIBLE, only_nearest=mark.end - mark.start == 1)
            elif cue & Cue.PROBABLE_LAST and not cue & Cue.PROBABLE_NEXT:
                self._doubt_last(marks, i, Certainty.PROBABLE, only_nearest=False)
            elif cue & Cue.HISTORY_LAST:
                self._doubt_last(marks, i, _HISTORICAL, only_nearest=True)

    def _doubt_last(self, marks: list[Mark], i: int, certainty: Certainty, *, only_nearest: bool) -> None:
        for j in _subjects(marks, i):
            if marks[j].concept or marks[j].attribute:
                if _DOUBT[certainty] > _DOUBT[self.certainty[j]]:
                    self.certainty[j] = certainty
                if certainty is Certainty.POSSIBLE:
                    self.denied[j] = False  # "cannot be excluded"
                if only_nearest:
                    return


def _opens_statement(marks: list[Mark], comma: int) -> bool:
    """Whether a comma under "no" ends the enumeration: "no pneumothorax, small left effusion"."""
    rest = marks[comma + 1 :]
    if not rest:
        return False
    head = rest[0]
    if _is_graded_last(rest) and _concept_since_denial(marks, comma):
        return True
    opens = bool(head.entry.severity or head.entry.change or head.cue & (Cue.ARTICLE | Cue.PREPOSITION | Cue.PRONOUN))
    if (head.side or head.place) and not head.concept:
        opens = opens or _concept_since_denial(marks, comma)
    if head.attribute == "normal":
        return True
    if not opens:
        return False
    for mark in rest:
        if mark.cue & _CLAUSE_END:
            break
        if mark.cue & (Cue.ALTERNATIVE | Cue.NEGATES_LAST):
            return False
    return True


def _is_graded_last(rest: list[Mark]) -> bool:
    """Whether the next part of the enumeration ends with its grade: "no pneumothorax, effusion small"."""
    part: list[Mark] = []
    for mark in rest:
        if mark.cue & (_CLAUSE_END | Cue.SOFT_BREAK | Cue.COMMA):
            break
        if mark.cue & (Cue.CONJUNCTION | Cue.ALTERNATIVE):
            return False
        part.append(mark)
    return bool(part) and part[0].concept is not None and part[-1].entry.severity is not None


def _concept_since_denial(marks: list[Mark], comma: int) -> bool:
    for j in range(comma - 1, -1, -1):
        if marks[j].concept:
            return True
        if marks[j].cue & _NEXT:
            return False
    return False


def _of_the_other_side(marks: list[Mark], i: int) -> bool:
    """Whether the word at i denies for one side what is said of the other: "effusion on the right, left none"."""
    if i < 2 or marks[i - 1].side is None or marks[i - 1].place or not marks[i - 2].cue & Cue.COMMA:
        return False
    sides = {marks[j].side for j in _subjects(marks, i - 1)} - {None}
    return bool(sides) and marks[i - 1].side not in sides


def _closes(marks: list[Mark], i: int) -> bool:
    """Whether a word such as "absent" is the last in its clause: "pneumothorax absent, effusion present"."""
    following = marks[i + 1].cue if i + 1 < len(marks) else Cue.BREAK
    return bool(following & (Cue.BREAK | Cue.COMMA)) and _something_to_deny(marks, i)


def _closed(marks: list[Mark], i: int) -> list[int]:
    """What the closing word at i denies: in a list of such pairs, "effusion small, nodule none", only its own."""
    subjects = _subjects(marks, i)
    if any(marks[j].cue & Cue.CLOSES for j in subjects):
        comma = next((at for at, j in enumerate(subjects) if marks[j].cue & Cue.COMMA), len(subjects))
        return subjects[:comma]
    return _one_statement(subjects, marks)


def _one_statement(subjects: list[int], marks: list[Mark]) -> list[int]:
    """Those of the subjects that a word at the end denies: not a device or a sided or graded finding that only a comma
    parts from plain ones, "left subclavian catheter, pneumothorax absent"."""
    plain: list[int] = []  # up to the comma that was met last
    part: list[int] = []
    for j in (*subjects, -1):
        cue = marks[j].cue if j >= 0 else Cue.COMMA
        if cue & Cue.CONJUNCTION and not cue & Cue.COMMA and not plain:
            return subjects  # "left effusion and pneumothorax are absent"
        if cue & Cue.COMMA and any(marks[at].concept for at in part):
            if any(_is_own_statement(marks[at]) for at in part):
                return plain or (part if _is_of_the_other_side(subjects, part, marks) else subjects)
            plain += part
            part = []
        if j >= 0:
            part.append(j)
    return subjects


def _is_of_the_other_side(subjects: list[int], nearest: list[int], marks: list[Mark]) -> bool:
    """Whether what stands before the comma speaks of one side, and the nearest part of the other: "left effusion, right
    pneumothorax absent"."""
    further = subjects[len(nearest) + 1 :]  # the comma is between them
    told = [{marks[j].side for j in part} - {None} for part in (further, nearest)]
    linked = any(marks[j].cue & Cue.CONJUNCTION for j in further)
    return len(told[0]) == len(told[1]) == 1 and told[0] != told[1] and not linked


def _is_own_statement(mark: Mark) -> bool:
    return mark.side is not None or mark.entry.severity is not None or mark.entry.device


def _changes_side(marks: list[Mark], link: int) -> bool:
    """Whether "and" under "no" ends the denial: "no right effusion and a small left effusion"."""
    noun = next((j for j in range(link + 1, len(marks)) if marks[j].concept or marks[j].cue & _CLAUSE_END), None)
    if noun is None or not marks[noun].concept:
        return False
    after = marks[link + 1 : noun + 1]
    if not any(mark.entry.severity or mark.cue & Cue.ARTICLE for mark in after):
        return False
    before: list[Mark] = []
    for mark in reversed(marks[:link]):
        if mark.cue & _NEXT:
            break
        before.append(mark)
    said = {mark.side for mark in before} - {None}
    told = {mark.side for mark in (*after, *marks[noun + 1 : noun + 2])} - {None}
    same = any(mark.concept == marks[noun].concept for mark in before)
    return same and len(said) == len(told) == 1 and said != told


def _looks_back(marks: list[Mark], i: int) -> bool:
    """Whether a word such as "unlikely" denies what is before it: not after a comma, where a finding follows."""
    if not _something_to_deny(marks, i):
        return False
    if i and marks[i - 1].cue & Cue.COMMA:
        for mark in marks[i + 1 :]:
            if mark.cue & (_CLAUSE_END | Cue.COMMA):
                break
            if mark.concept:
                return False
    return True


def _something_to_deny(marks: list[Mark], i: int) -> bool:
    return any(marks[j].concept for j in _subjects(marks, i))


def _subjects(marks: list[Mark], i: int) -> list[int]:
    """Marks before i that a verb at i speaks about, nearest first: its clause, up to an earlier verb."""
    subjects = []
    met = False
    for j in range(i - 1, -1, -1):
        cue = marks[j].cue
        if cue & (_CLAUSE_END | Cue.SOFT_BREAK | Cue.NEGATES_LAST):
            break
        if cue & Cue.COPULA and met:
            break
        subjects.append(j)
        met = met or marks[j].concept is not None
    return subjects
