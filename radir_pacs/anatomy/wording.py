"""From the words of a report or a user to a region.

Two wordings of one place become the same *sorted bag of words*: case, accents, hyphens, plurals (Latin ones too),
British spelling, adjectives and word order are levelled (``words.toml``), so that "lower lobe of left lung", "LEFT
lower lobes" and "left-lower lobe" meet. Abbreviations are synonyms in the table.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import unicodedata
from functools import cache
from importlib.resources import files

from radir_pacs.anatomy.table import ancestors, regions
from radir_pacs.errors import UnknownRegion
from radir_pacs.types import ImageKind, Region

MAX_TEXT_CHARS = 200  # longer texts are not names of places, and matching them is slow

_ORDINAL = re.compile(r"\d+(st|nd|rd|th)?")
_VERTEBRA = re.compile(r"([ctl])\d{1,2}")
_SPINE_PARTS = {"c": "cervical", "t": "thoracic", "l": "lumbar"}

with (files("radir_pacs.anatomy") / "words.toml").open("rb") as _words_file:
    _WORDS = tomllib.load(_words_file)
_FILLERS, _OF_THE_LUNG = frozenset(_WORDS["fillers"]), frozenset(_WORDS["of_the_lung"])
_FINER, _PARTS = frozenset(_WORDS["finer"]), frozenset(_WORDS["parts"])
_SPELLING: dict[str, str] = _WORDS["spelling"]
_LEVELLED: dict[str, str] = _WORDS["levelled"]


def normalise(text: str) -> str:
    """``text`` as a sorted bag of normalised words; "" when nothing is left."""
    return " ".join(sorted(_words(text)))


def look_up(text: str, kind: ImageKind | None = None) -> Region:
    """The region that ``text`` names ("LLL", "lower lobe of left lung", "left_lower_lobe").

    With ``kind``, only a region that such images show. Raises UnknownRegion with the nearest names.
    """
    words = _words(text[:MAX_TEXT_CHARS])
    coarser = _coarser(words)
    for tried in (words, coarser, coarser - _PARTS):
        found = _by_wording().get(" ".join(sorted(tried)))
        if found is None:
            continue
        if kind is None or kind in found.kinds:
            return found
        raise UnknownRegion(text, tuple(above.name for above in ancestors(found.key) if kind in above.kinds)[:3])
    raise UnknownRegion(text[:MAX_TEXT_CHARS], nearest(text, kind))


def nearest(text: str, kind: ImageKind | None = None, count: int = 3) -> tuple[str, ...]:
    """The names of the ``count`` regions whose wordings look most like ``text``."""
    known = {wording: found.name for wording, found in _by_wording().items() if kind is None or kind in found.kinds}
    close = difflib.get_close_matches(normalise(text[:MAX_TEXT_CHARS]), known, n=4 * count, cutoff=0.6)
    return tuple(dict.fromkeys(known[wording] for wording in close))[:count]


@cache
def _by_wording() -> dict[str, Region]:
    known: dict[str, Region] = {}
    for found in regions():
        for wording in (found.name, found.key, *found.synonyms):
            known.setdefault(normalise(wording), found)
    return known


def _coarser(words: list[str]) -> set[str]:
    """The words without what is finer than the table: "right 6th rib" is the right ribs, T8 the thoracic spine."""
    coarse: set[str] = set()
    for word in words:
        if level := _VERTEBRA.fullmatch(word):
            coarse |= {_SPINE_PARTS[level[1]], "vertebra"}
        elif word not in _FINER and not _ORDINAL.fullmatch(word):
            coarse.add(word)
    return coarse


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    words = [_level(word) for word in re.findall(r"[a-z0-9]+", plain)]
    words = [word for word in words if word not in _FILLERS]
    if len(words) > 1 and _OF_THE_LUNG.intersection(words):
        words = [word for word in words if word != "lung"] or words
    return words


def _level(word: str) -> str:
    for british, american in _SPELLING.items():
        word = word.replace(british, american)
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif word not in _LEVELLED and len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "os")):
        word = word[:-1]
    return _LEVELLED.get(word, word)
