"""Labels and their answers: "Pneumothorax: None", "Consolidation - yes, right lower lobe", "PTX (-)", "Effusion? No".

The marks of such a statement are turned into those of a sentence: the answer becomes a cue after its label, and the
separator between them is dropped. Lists under an answer ("Absent: pneumothorax, effusion") are reversed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from radir_pacs.reports.lexicon import Lexicon, load
from radir_pacs.reports.lexicon_terms import Cue, Entry
from radir_pacs.reports.marks import Mark

# What may separate a label from its answer; checked first, since few sentences contain it.
PARTED = re.compile(r"[:=?|(\[\n]|\s[-–—]+\s|[-–+]\s*$|[+]|\t")
_SEPARATOR = re.compile(r"\s*(?:[:=?|\t\n]+|\s[-–—]+\s|\[|(?=\())\s*(?:[-–—]\s+)?")


_END = r"(?![\w/%]|-\w)"
_SIGNS = {  # in addition to the words of cues.toml; in the order in which they are tried
    "unsaid": (0, r"_{2,}|(?:(?:please )?see|s(?:iehe|\.)) (?:\w+ ){0,2}(?:report|Befund)\b[^.;\n]*"),
    "possible": (Cue.POSSIBLE_LAST, r"\?"),
    "probable": (Cue.PROBABLE_LAST, None),
    "no": (Cue.NEGATES_LAST, r"\(\s*[-−–]\s*\)|[-−–]ve\b|[-−–](?=\s*(?:[,;.]|$))"),
    "yes": (Cue.COPULA, r"\(\s*\+\s*\)|\+ve\b|\++(?=\s*(?:[,;.]|$))"),
}


class _Answer(NamedTuple):
    cue: int  # 0: nothing is said of the label
    words: re.Pattern[str]


class _Answers(NamedTuple):
    """A language's answers; ``heads``: what may head a list ("Absent: pneumothorax"); ``closing``: words that may
    follow an answer without making it a description ("no on the left")."""

    answers: tuple[_Answer, ...]
    heads: re.Pattern[str]
    following: frozenset[str]


@lru_cache(maxsize=8)
def _answers(lexicon: Lexicon) -> _Answers:
    table = lexicon.data["cues"]["answer"]
    answers = []
    for name, (cue, sign) in _SIGNS.items():
        words = f"(?:{_either(table[name])}){_END}"
        answers.append(_Answer(cue, re.compile(f"{words}|{sign}" if sign else words, re.IGNORECASE)))
    heads = f"(?P<no>{_either(table['heads_no'])})|(?P<yes>{_either(table['heads_yes'])})"
    return _Answers(tuple(answers), re.compile(heads, re.IGNORECASE), frozenset(table["following"]))


def _either(phrases: Iterable[str]) -> str:
    return "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in sorted(phrases, key=len, reverse=True))


def answered(text: str, marks: list[Mark], lexicon: Lexicon) -> list[Mark]:
    """The marks of ``text`` with its answers as cues; unchanged where nothing is answered."""
    known = _answers(lexicon)
    headed = _headed(text, marks, known)
    if headed is not None:
        return headed
    found: list[Mark] = []
    position = at = 0  # in the text; in the marks
    changed = False
    while (parted := _next_pair(text, position, marks, at, lexicon)) is not None:
        label, rest, stop, answer_start, cue = parted
        changed = True
        found += label
        at = next((n for n, mark in enumerate(marks) if mark.start >= stop), len(marks))
        if cue is None:
            position = stop
            if rest:  # a place's label: "Heart: enlarged"
                found.append(_cue(Cue.COPULA, label[-1], stop))
                _hand_on_side(label, marks, at)
            continue
        if cue == 0:
            for mark in label:
                found.remove(mark)
        else:
            found.append(_cue(cue, label[-1], answer_start))
            if at < len(marks):  # as near to what follows as the answer is
                found[-1].first = found[-1].last = max(label[-1].last, marks[at].first - 1)
        if text[stop:].lstrip().startswith(":"):  # "yes: right lower lobe"
            marks = [mark for mark in marks if not (stop <= mark.start and text[stop : mark.end].strip() == ":")]
        if cue in (0, Cue.NEGATES_LAST) or _says_more(marks, at):
            found.append(_cue(Cue.BREAK, label[-1], answer_start))
        position = stop
    return found + marks[at:] if changed else marks


def _headed(text: str, marks: list[Mark], known: _Answers) -> list[Mark] | None:
    head, colon, _ = text.partition(":")
    kind = known.heads.fullmatch(head.strip()) if colon else None
    if kind is None:
        return None
    rest = [mark for mark in marks if mark.start > len(head)]
    if not any(mark.concept for mark in rest):
        return None
    if kind["yes"]:
        return rest
    commas = Cue.COMMA | Cue.BREAK
    enumerated = [mark for mark in rest if not (mark.cue & commas and mark.end - mark.start == 1)]
    return [Mark(Entry(cue=Cue.NEGATES_NEXT), 0, 0, 0, len(head)), *enumerated]


def _next_pair(
    text: str, position: int, marks: list[Mark], at: int, lexicon: Lexicon
) -> tuple[list[Mark], bool, int, int, int | None] | None:
    """The next label: its marks, whether it names a place alone, where its separator or answer ends, where the answer
    begins, and the cue of the answer; None for a label that has a description in place of an answer."""
    known = _answers(lexicon)
    for separator in _SEPARATOR.finditer(text, position):
        label = [mark for mark in marks[at:] if mark.end <= separator.start() + 1 and mark.start < separator.start()]
        if not label:
            continue
        label = _of_last_clause(label)
        about = any(mark.concept or (mark.attribute and mark.attribute != "normal") for mark in label)
        spoken = Cue.NEGATES_NEXT | Cue.NEGATES_LAST | (0 if "?" in separator[0] else Cue.THERE)
        if any(mark.cue & spoken for mark in label):
            continue
        whole = [mark for mark in marks[at:] if mark.start < separator.start()]
        if about:
            for cue, words in known.answers:
                answer = words.match(text, separator.end())
                if answer is not None and _closes(text, answer, cue, separator[0], known.following):
                    return whole, False, answer.end(), answer.start(), cue
        if ":" in separator[0] and separator.start() <= 60 + position:
            value = _clause_after(marks, separator.end())
            if about and _restates(label, value, lexicon):
                return whole, False, separator.end(), separator.end(), 0
            described = about and not any(mark.concept for mark in value)
            placed = (
                not about and all(mark.place or mark.side or mark.cue for mark in label) and any(m.place for m in label)
            )
            if described or placed:
                return whole, placed, separator.end(), separator.end(), None
    return None


def _closes(text: str, answer: re.Match[str], cue: int, separator: str, allowed: frozenset[str]) -> bool:
    """Whether this is an answer and not the first word of a description: "Consolidation: no change"."""
    rest = text[answer.end() :]
    if not separator.strip() and "\n" not in separator and not answer[0].startswith("("):
        return False
    if not rest.strip(" .)]") or rest.lstrip()[:1] in ",;:.(])|/-–" or "\n" in rest[: len(rest) - len(rest.lstrip())]:
        return True
    if answer[0].startswith("("):
        return True
    if re.match(r"\s*[A-Z][\w /-]{1,40}?\s*[:=?]", rest) or re.match(r"\s{2,}\S", rest):
        return True  # the next pair follows without a stop
    word = re.match(r"\s+([\w']+)", rest)
    following = word[1].lower() if word else ""
    if cue == Cue.COPULA or cue in (Cue.POSSIBLE_LAST, Cue.PROBABLE_LAST):
        return True
    return following in allowed


def _restates(label: list[Mark], value: list[Mark], lexicon: Lexicon) -> bool:
    """Whether a sentence follows a title: "Effusion: there is a small effusion", "Fracture: no displaced fracture"."""
    named = {mark.concept for mark in label if mark.concept}
    said = {mark.concept for mark in value if mark.concept}
    near = any(a in lexicon.ancestors[b] or b in lexicon.ancestors[a] for a in named for b in said)
    return bool(said) and (near or any(mark.cue & (Cue.NEGATES_NEXT | Cue.NEGATES_LAST) for mark in value))


def _of_last_clause(label: list[Mark]) -> list[Mark]:
    for index in range(len(label) - 1, -1, -1):
        if label[index].cue & Cue.BREAK:
            return label[index + 1 :]
    return label


def _clause_after(marks: list[Mark], start: int) -> list[Mark]:
    clause = []
    for mark in marks:
        if mark.start >= start:
            if mark.cue & Cue.BREAK:
                break
            clause.append(mark)
    return clause


def _says_more(marks: list[Mark], at: int) -> bool:
    """Whether another finding follows the answer; "Consolidation: yes, right lower lobe" has none."""
    return any(mark.concept for mark in marks[at:])


def _hand_on_side(label: list[Mark], marks: list[Mark], at: int) -> None:
    """Give a label's side to its answer: "Right lung: consolidation, lower lobe" is about the right lower lobe."""
    side = next((mark.side for mark in label if mark.side), None)
    if side is None or any(mark.side for mark in marks[at:]):
        return
    place = next((mark for mark in marks[at:] if mark.place), None)
    if place is not None:
        place.side = side


def _cue(cue: int, last: Mark, start: int) -> Mark:
    return Mark(Entry(cue=cue), last.last, last.last, start, start + 1)


def is_answer(text: str) -> bool:
    """Whether the whole of ``text`` is an answer: "Absent"."""
    return any(words.fullmatch(text.strip()) for _, words in _answers(load()).answers)
