"""How a language is written: what ends a sentence and a line of it. The words stand in ``sentences.toml``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_CAPITAL = "A-ZÄÖÜ"
_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Writing:
    """Patterns of one language; sentences.py and lines.py say what each is for."""

    boundary: re.Pattern[str]
    abbreviation: re.Pattern[str]
    shortened: re.Pattern[str]
    negative: re.Pattern[str]
    continued: re.Pattern[str]
    ordinal: re.Pattern[str]
    open_end: re.Pattern[str]
    qualified_end: re.Pattern[str]
    open_start: re.Pattern[str]
    trailing: re.Pattern[str]
    leading: re.Pattern[str]
    labelled_end: re.Pattern[str]
    alone: re.Pattern[str]
    answer_line: re.Pattern[str]
    capital_nouns: bool  # a line may begin with a capital in the middle of a sentence


def read_writing(table: Mapping[str, Any]) -> Writing:
    sentence, line = table["sentence"], table["line"]
    answers, negations = _either(sentence["answers"]), _either(sentence["negations"])
    dashed, conjunctions = _either(sentence["dashed_answers"]), _either(line["conjunctions"])
    # A full stop ends a sentence before white space, at the end, or where the space was forgotten ("apex.There").
    # A question mark inside a sentence marks doubt, so it ends one only before a capital that is not an answer to it.
    # Bullets and, outside of quotations, quotes separate the items of an impression. For line ends see lines.py.
    boundary = (
        rf"(?P<stop>\.)(?=[>\])}}]*(?:\s|$|[\"”]))|(?P<glued>(?<=[a-zäöüß)])\.)(?=[{_CAPITAL}][a-zäöü])|"
        rf"[!?](?=\s+[{_CAPITAL}]|\s*$)(?!\s*(?:{answers})\b)|"
        rf"(?P<quote>[\"“”]+)|[•*]+|(?P<line>\n\s*)|(?P<number>(?<=\s)\d{{1,2}}[.)](?=\s+[{_CAPITAL}]))|"
        rf";(?=\s+(?:{negations})\b)|--+(?=\s+[{_CAPITAL}])(?!\s*(?:{dashed})\b)"
    )
    return Writing(
        boundary=re.compile(boundary),
        abbreviation=re.compile(rf"(?:\b(?:{_either(sentence['abbreviations'])})|\b[A-Z])$", re.IGNORECASE),
        shortened=_words(sentence["shortened"], r"\b(?:{})$"),
        negative=_words(sentence["negative"], r"\b(?:{})$"),
        continued=_words(sentence["continued"], r"\s*(?:{})", re.NOFLAG),
        ordinal=_words(sentence["ordinals"], r"\.?\s*(?:{})"),
        open_end=_words(line["open_ends"], r"(?:[,&(+]|\b(?:{}))\s*$"),
        qualified_end=_words(line["qualified_ends"], r"\b(?:{})\s*$"),
        open_start=_words(line["open_starts"], r"(?:{})\b|[,)]", re.NOFLAG),
        trailing=re.compile(rf"[,&]\s*$|\b(?:{conjunctions})\s*$", re.IGNORECASE),
        leading=re.compile(rf"(?:{conjunctions})\b"),
        labelled_end=_words(line["label_answers"], r"(?:[:=?|\t]|\s[-–]+\s|\s{{2,}})\s*(?:{})\s*$"),
        alone=_words(line["alone"], r"\W*(?:{})\W*"),
        answer_line=_words(line["answers"], r"(?:{})[ \t]*\.?[ \t]*(?=\n|$)"),
        capital_nouns=bool(line["capital_nouns"]),
    )


def _words(words: Iterable[str], pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    listed = _either(words)
    return re.compile(pattern.format(listed), flags) if listed else _NOTHING


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words)
