"""Which language a report is written in, by its function words, so that none is read with another one's lexicon.

"Kein Pneumothorax" looks like an affirmed pneumothorax to an English lexicon. Short texts are recognised too: one word
that only German has, and none that English has, is enough. Other scripts are recognised by their letters (Unicode
names).
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Set
from functools import lru_cache
from pathlib import Path

from radir_pacs.reports.lexicon import load
from radir_pacs.reports.lexicon_data import FIRST, LANGUAGES
from radir_pacs.reports.tokens import TOKEN

READ = frozenset(LANGUAGES)  # the languages that reports are mined in
UNKNOWN = "und"  # ISO 639-2: undetermined
_FILE = Path(__file__).parent / "lexicon" / "languages.toml"
_ANY_WORD = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"\b[^\W\d_]+\b(?!-)")  # not the "non" of "non-calcified"
_NON = re.compile(r"\bnon\s*(?:[.;,\n]|$)")  # the answer "no" in French or Italian; "non specific" is English
_NUMBERED = frozenset({"im", "se"})  # before a number an image and its series: "se 3, im 41" is English
_UNNUMBERED = re.compile(r"\b(im|se)\b(?!\W{0,3}\d)")
_LETTERS = bytes(ord(chr(code).lower()) if code < 128 and chr(code).isalpha() else ord(" ") for code in range(256))
_OTHER_SCRIPT = re.compile(r"[\u0370-\u1fff\u2c00-\ud7ff\uf900-\ufdff\ufe70-\uffee]")
_SCRIPTS = {
    "CYRILLIC": "ru",
    "GREEK": "el",
    "ARABIC": "ar",
    "HEBREW": "he",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "THAI": "th",
    "DEVANAGARI": "hi",
}
_ENDINGS = ("n", "en", "e", "s", "er")  # of a lexicon's words
_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
_NAMED = 5  # characters; a longer word of a lexicon tells its language
_SHORT = 3  # without its accents a word of this length may be anything: "ép" is not "EP"
_SCRIPT_SHARE = 0.3  # of the letters; a Greek letter or a name in brackets does not make a report Greek


def words_of(text: str) -> set[str]:
    """The words of a text in lower case; what letters a hyphen, a digit or any other sign parts are words of their own.

    A table of bytes does that for ASCII in a third of the time.
    """
    if text.isascii():
        return set(text.encode().translate(_LETTERS).decode().split())
    return set(_ANY_WORD.findall(text.lower()))


@lru_cache(maxsize=1)
def _words() -> tuple[frozenset[str], Mapping[str, tuple[tuple[str, bool], ...]], frozenset[str], tuple[str, ...]]:
    """English words; which other languages have a word, and whether it is their own; the words that some language has
    for its own and "non", which need a closer look; the names of those languages."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    english = frozenset(table.pop(FIRST)["strong"])
    ours = english | load(FIRST).vocabulary  # "pneumothorax" occurs in many languages and indicates none
    others: dict[str, dict[str, bool]] = {}
    for language, words in table.items():
        for strength in ("weak", "strong"):
            for word in words[strength]:
                for form in _forms(word):
                    if len(form) > 1 and form not in ours:
                        others.setdefault(form, {})[language] = strength == "strong"
    normalise = load(FIRST).normalise
    for language in LANGUAGES[1:]:
        for word in _of_lexicon(language):  # "Randwinkelerguss re." has no function word
            if word not in ours and normalise(word) not in ours:  # nor is it one in British spelling
                for form in (word, *(word + ending for ending in _ENDINGS)):
                    if normalise.base(form) not in ours:
                        others.setdefault(form, {language: True})
    foreign = {word: tuple(found.items()) for word, found in others.items()}
    telling = frozenset(word for word, languages in foreign.items() if any(own for _, own in languages))
    return english, foreign, telling | {"non"}, tuple(table)


def _forms(word: str) -> set[str]:
    """A word as it is written, and without its accents: "für", "fuer", "fur"; short ones only as they are."""
    bare = _bare(word)
    return {word, word.translate(_SPELT_OUT), bare} if len(bare) > _SHORT else {word}


def _of_lexicon(language: str) -> set[str]:
    """The long words of a language's findings and places."""
    data = load(language).data
    rows = (*data["concepts"].values(), *data["places"]["observable"].values())
    terms = [term for row in rows for term in row["terms"]]
    terms += [term for words in data["places"]["terms"].values() for term in words]
    words = {word.lower() for term in terms for word in TOKEN.findall(term) if len(word) > _NAMED}
    return {form for word in words for form in _forms(word)}


def _bare(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))


def language_of(text: str, words: Set[str] | None = None) -> str:
    """ISO 639-1 code of the language of ``text``; "en" also where nothing indicates another one.

    words: those of the text, where they are known already.
    """
    if not text.isascii() and _OTHER_SCRIPT.search(text) and (script := _script(text)) is not None:
        return script
    english, others, telling, order = _words()
    words = words_of(text) if words is None else words
    told = telling & words
    if not told:
        return FIRST  # the fast path, for most reports
    lowered = text.lower()
    if _surely_english(lowered, words & english, 2 * len(told)):  # no language scores more than two for each such word
        return FIRST
    found = set(_WORD.findall(lowered))
    if "non" in found and _NON.search(lowered):
        found.add("non.")
    if not found.isdisjoint(_NUMBERED):
        found -= _NUMBERED - set(_UNNUMBERED.findall(lowered))
    foreign = found & others.keys()
    if not foreign:
        return FIRST
    strong, weak = Counter[str](), Counter[str]()
    for word in foreign:
        for language, own in others[word]:
            (strong if own else weak)[language] += 1
    if not strong:
        return FIRST
    scores = {language: count + min(count, weak[language]) for language, count in strong.items()}
    best = max(sorted(scores, key=order.index), key=lambda language: (scores[language], strong[language]))
    return best if scores[best] > len(found & english) else FIRST


def _surely_english(lowered: str, words: Set[str], least: int) -> bool:
    """Whether ``least`` of the words stand between spaces, which is quicker to see than all words that stand alone."""
    for word in words:
        if least <= 0:
            break
        least -= f" {word} " in lowered
    return least <= 0


def _script(text: str) -> str | None:
    letters = [c for c in text if c.isalpha()]
    scripts = Counter(unicodedata.name(c, "?").split()[0] for c in letters)
    other = {name: count for name, count in scripts.items() if name in _SCRIPTS}
    if sum(other.values()) <= _SCRIPT_SHARE * len(letters):
        return None
    if {"HIRAGANA", "KATAKANA"} & other.keys():
        return "ja"
    return _SCRIPTS[max(other, key=lambda name: other[name])]
