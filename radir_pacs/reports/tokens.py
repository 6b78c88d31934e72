"""The words of a report sentence in normal form: case, spelling, number, de-identification blanks, typing errors.

The lexicon's phrases pass through the same ``Normaliser``, so only agreement matters, not linguistic truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from radir_pacs.reports.compounds import Compounds

BLANK = "_"  # what a de-identified word becomes
TOKEN = re.compile(
    r"[A-Za-zÀ-ÖØ-öø-ɏ]+(?:'[a-z]+)?|\d+(?:[.,]\d+)?|_{2,}|\[\*\*[^\]]{0,80}\*\*\]|[-+−–]ve\b|\([-+−–]\)|[^\sA-Za-z\d]|\d"
)
_PARTED = re.compile(f"({TOKEN.pattern})")  # what it splits a text into: gap, token, gap, …
_ASCII_PARTED = re.compile(_PARTED.pattern.replace("À-ÖØ-öø-ɏ", ""))  # the same for a text of ASCII, and faster
_BLANK_TOKEN = re.compile(r"[Xx]{3,}|_{2,}|\[\*\*.*")
_SIGNS = dict.fromkeys("-−–", "negative") | dict.fromkeys("+", "positive") | {"(": ""}  # "-ve", "(+)"
_MIN_TYPO_LENGTH = 7
_CACHE_LIMIT = 200_000


def tokens_of(text: str) -> tuple[list[str], list[int], list[int]]:
    """The tokens of a text, where each begins, and where each ends."""
    parts = (_ASCII_PARTED if text.isascii() else _PARTED).split(text)
    offsets = list(accumulate(map(len, parts)))
    return parts[1::2], offsets[:-1:2], offsets[1::2]


class Normaliser:
    """Maps a word to its normal form; caches the answers, within a bound.

    endings: a pattern of what inflection adds to a word; without it, an "s" is the plural. compounds: how compounds
    are cut, in a language that writes them as one word. dropped: signs that stand for nothing.
    """

    def __init__(
        self,
        *,
        spelling: Mapping[str, str],
        irregular: Mapping[str, str],
        keep: Iterable[str] = (),
        endings: str | None = None,
        compounds: Mapping[str, Any] | None = None,
        dropped: Iterable[str] = "-",
    ) -> None:
        self._spelling = [(re.compile(pattern), to) for pattern, to in spelling.items()]
        self._keep = frozenset(keep)
        self._endings = re.compile(endings) if endings else None
        self._irregular: dict[str, str] = {}
        if self._endings:
            self._irregular = {self.base(form): self.base(word) for form, word in irregular.items()}
        else:
            self._irregular = dict(irregular)
        self.compounds = Compounds(compounds, self) if compounds else None
        self.dropped = frozenset(dropped)
        self._likely: dict[str, list[str]] = {}  # length and first letter -> words that a typing error may stand for
        self._vocabulary: set[str] = set()
        self.known: dict[str, str] = {}  # the answers so far: a word -> its normal form

    def base(self, word: str) -> str:
        """Lower case, one spelling, no inflection; typing errors are not corrected."""
        return self.stem(self.spelt(word))

    def spelt(self, word: str) -> str:
        """Lower case, one spelling (American, or without umlauts)."""
        word = word.lower()
        if word.endswith("'s"):
            word = word[:-2]
        for pattern, to in self._spelling:
            word = pattern.sub(to, word)
        return word

    def parts(self, word: str) -> tuple[str, ...]:
        """The normal forms of a compound's parts, or of the word itself; typing errors are not corrected."""
        return (self.base(word),) if self.compounds is None else self.compounds.parts(word) or (self.base(word),)

    def stem(self, word: str) -> str:
        """A word as it is spelt, without its inflection."""
        if self._endings is not None:
            word = word if word in self._keep else self._endings.sub("", word)
            return self._irregular.get(word, word)
        if word in self._irregular:
            return self._irregular[word]
        if word in self._keep or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
            return word
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        if word.endswith(("sses", "xes", "ches", "shes")):
            return word[:-2]
        return word[:-1]

    def learn(self, words: Iterable[str]) -> None:
        """Add (normal) words to which typing errors may be corrected."""
        for word in words:
            if word not in self._vocabulary:
                self._vocabulary.add(word)
                if len(word) >= _MIN_TYPO_LENGTH:
                    for length in (len(word) - 1, len(word), len(word) + 1):
                        self._likely.setdefault(f"{length}{word[0]}", []).append(word)
        self.known.clear()

    def all(self, word: str) -> tuple[str, ...]:
        """The word in normal form, or its parts if it is a compound; typing errors are corrected in either."""
        if self.compounds is None:
            return (self(word),)
        parts = self.compounds.parts(word)
        if parts:
            return parts
        found = self(word)
        return self.compounds.parts(found) or (found,)

    def knows(self, word: str) -> bool:
        return self.base(word) in self._vocabulary

    def __call__(self, word: str) -> str:
        found = self.known.get(word)
        if found is None:
            if word[0] in _SIGNS and len(word) > 1:
                found = _SIGNS[word[0] if word[0] != "(" else word[1]]
            elif _BLANK_TOKEN.fullmatch(word):
                found = BLANK
            else:
                found = self.base(word)
                if len(found) >= _MIN_TYPO_LENGTH and found not in self._vocabulary and found not in self._keep:
                    near = {
                        known for known in self._likely.get(f"{len(found)}{found[0]}", ()) if _one_edit(found, known)
                    }
                    if len(near) == 1:
                        found = near.pop()
            if len(self.known) >= _CACHE_LIMIT:
                self.known.clear()
            self.known[word] = found
        return found


def edits(a: str, b: str, most: int) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours between two words; only exact up to ``most``."""
    if abs(len(a) - len(b)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, mine in enumerate(a, 1):
        earlier, before, row = before, row, [i, *(0 for _ in b)]
        for j, theirs in enumerate(b, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (mine != theirs))
            if i > 1 and j > 1 and mine == b[j - 2] and a[i - 2] == theirs:
                row[j] = min(row[j], earlier[j - 2] + 1)
        if min(row) > most:
            return most + 1
    return row[-1]


def _one_edit(a: str, b: str) -> bool:
    """Whether one insertion, deletion, substitution or swap of neighbours turns a into b."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return a == b
    start = 0
    limit = min(len(a), len(b))
    while start < limit and a[start] == b[start]:
        start += 1
    if len(a) == len(b):
        swapped = a[start + 1 : start + 2] == b[start : start + 1] and a[start : start + 1] == b[start + 1 : start + 2]
        return a[start + 1 :] == b[start + 1 :] or (swapped and a[start + 2 :] == b[start + 2 :])
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return longer[start + 1 :] == shorter[start:]
