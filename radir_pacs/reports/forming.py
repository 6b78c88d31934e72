"""Attributes joined with places: "heart is enlarged" is a finding, "lungs are clear" a normal statement."""

from __future__ import annotations

from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import ROOT, Cue
from radir_pacs.reports.marks import Mark
from radir_pacs.reports.placing import Place
from radir_pacs.reports.scope import Scopes

_NEAR = 4  # words between an attribute and its place
_LINK = Cue.CONJUNCTION | Cue.COMMA | Cue.PREPOSITION
_STOP = Cue.BREAK | Cue.THERE | Cue.SOFT_BREAK


def form(
    marks: list[Mark], scopes: Scopes, places: list[Place], lexicon: Lexicon
) -> tuple[dict[int, tuple[str, list[Place], bool]], dict[int, list[Place]]]:
    """Attributes joined with places: concepts ("heart is enlarged") and normal statements ("lungs are clear")."""
    formed: dict[int, tuple[str, list[Place], bool]] = {}
    normal: dict[int, list[Place]] = {}
    if not places:
        return formed, normal
    by_index = {place.index: place for place in places}
    for i, mark in enumerate(marks):
        attribute = mark.attribute
        if attribute is None:
            continue
        predicate, candidates = _candidates(i, marks, by_index)
        for subjects in candidates:
            if not subjects:
                continue
            if attribute == "normal":
                if scopes.denied[i] and predicate and not mark.cue & Cue.NEGATES_NEXT:  # "negative" denies nothing here
                    formed[i] = (ROOT, subjects, False)  # "the heart is not normal"
                else:
                    normal[i] = subjects
                break
            keys = {_rule(attribute, place, marks, lexicon): place for place in subjects}
            rules = [key for key in keys if key]
            if rules:
                key = rules[0]
                matching = [place for place in subjects if _rule(attribute, place, marks, lexicon) == key]
                denied = scopes.denied[i]
                if predicate and subjects is candidates[0]:
                    denied = _denied_predicate(i, subjects[-1].index, marks) or _denied_after(i, marks)
                formed[i] = (key, matching, denied)
                break
    return formed, normal


def _rule(attribute: str, place: Place, marks: list[Mark], lexicon: Lexicon) -> str | None:
    named = marks[place.index].place or place.region
    if marks[place.index].concept:  # "prominent epicardial fat" is itself a finding, not an enlarged heart
        return lexicon.formed.get((attribute, named)) if (attribute, named) in lexicon.own_rules else None
    return lexicon.formed.get((attribute, named)) or lexicon.formed.get((attribute, place.region))


def _candidates(i: int, marks: list[Mark], by_index: dict[int, Place]) -> tuple[bool, list[list[Place]]]:
    """Where an attribute's place may be: the subject of its verb, after it, directly before it."""
    behind = _run(i, marks, by_index, +1)
    before = _run(i, marks, by_index, -1)
    copula = next((j for j in range(i - 1, -1, -1) if marks[j].cue & Cue.COPULA and not marks[j].cue & _STOP), None)
    if copula is not None and all(
        not (mark.concept or mark.place or mark.cue & (_STOP | Cue.COMMA)) or mark.attribute or mark.entry.severity
        for mark in marks[copula + 1 : i]
    ):
        subject = _subject(copula, marks, by_index)
        if subject:
            return True, [subject, behind, before]
    return False, [behind, before]


def _subject(copula: int, marks: list[Mark], by_index: dict[int, Place]) -> list[Place]:
    found: list[Place] = []
    for j in range(copula - 1, -1, -1):
        mark = marks[j]
        if j in by_index:
            found.append(by_index[j])
        elif mark.cue & (_STOP | Cue.COPULA) or mark.concept or (mark.attribute and not mark.entry.severity):
            break
    found.reverse()
    return found


def _run(i: int, marks: list[Mark], by_index: dict[int, Place], step: int) -> list[Place]:
    """Places next to an attribute on one side; after the first one, also across commas and "and"."""
    found: list[Place] = []
    last_word = marks[i].last if step > 0 else marks[i].first
    j = i + step
    while 0 <= j < len(marks):
        mark = marks[j]
        gap = mark.first - last_word - 1 if step > 0 else last_word - mark.last - 1
        if gap > _NEAR or mark.cue & (_STOP | Cue.COPULA):
            break
        if j in by_index:
            found.append(by_index[j])
        elif mark.concept and not mark.attribute:
            if step > 0 and found and not any(m.cue & _LINK for m in marks[found[-1].index + 1 : j]):
                found = []  # "increased basilar opacity": the place belongs to the finding
            break
        elif (mark.cue & Cue.COMMA and not found) or (mark.attribute and found):
            break
        elif step > 0 and mark.cue & Cue.CONJUNCTION and not found and i and marks[i - 1].place:
            break  # "heart size normal and lungs are clear"
        last_word = mark.last if step > 0 else mark.first
        j += step
    if step < 0:
        found.reverse()
    return found


def _denied_predicate(i: int, subject: int, marks: list[Mark]) -> bool:
    return any(mark.cue & Cue.NEGATES_NEXT for mark in marks[subject + 1 : i])


def _denied_after(i: int, marks: list[Mark]) -> bool:
    for mark in marks[i + 1 :]:
        if mark.cue & (_STOP | Cue.COMMA) or mark.concept or mark.place:
            return False
        if mark.cue & Cue.NEGATES_LAST:
            return True
    return False
