"""Words to integers: a small tokenizer of our own, whose whole vocabulary is in the bundle's manifest.

Text is lower-cased and cut into words and numbers. A word the vocabulary holds is one token; any other is cut greedily
into the longest pieces it does hold, at worst single characters, so no text is ever unreadable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

PAD, UNKNOWN = 0, 1
SPECIAL = ("[pad]", "[unknown]")
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
INSIDE = "##"  # marks a piece that continues a word
_WORD = re.compile(r"[a-z]+|[0-9]+")


class TextTokenizer(Protocol):
    """Texts to token ids: rows of equal length, filled up with PAD at the end. ``Tokenizer``, or ``LocalTokenizer``."""

    @property
    def vocabulary(self) -> tuple[str, ...]: ...

    def batch(self, texts: Sequence[str], limit: int = 64) -> list[list[int]]: ...


@dataclass(frozen=True)
class Tokenizer:
    """``vocabulary[i]`` is the text of token i; tokens 0 and 1 are padding and unknown."""

    vocabulary: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.vocabulary[:2] != SPECIAL or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("a vocabulary starts with its special tokens and repeats none")
        object.__setattr__(self, "_ids", {text: i for i, text in enumerate(self.vocabulary)})

    @classmethod
    def fitted(cls, texts: Iterable[str], size: int = 4096) -> Tokenizer:
        """The vocabulary of a corpus: every character, then its commonest words, ties in alphabetical order."""
        counts = Counter(word for text in texts for word in _WORD.findall(text.lower()) if len(word) > 1)
        words = sorted(counts, key=lambda word: (-counts[word], word))
        pieces = [*SPECIAL, *CHARACTERS, *(INSIDE + c for c in CHARACTERS)]
        return cls(tuple([*pieces, *words][:size]))

    def tokens(self, text: str, limit: int) -> list[int]:
        """At least one and at most ``limit`` tokens."""
        ids: list[int] = []
        for word in _WORD.findall(text.lower()):
            ids.extend(self._pieces(word))
        return ids[:limit] or [UNKNOWN]

    def _pieces(self, word: str) -> list[int]:
        ids: list[int] = []
        start = 0
        while start < len(word):
            mark = INSIDE if start else ""
            for stop in range(len(word), start, -1):
                found = self._ids.get(mark + word[start:stop])
                if found is not None:
                    ids.append(found)
                    break
            else:
                stop = start + 1
                ids.append(UNKNOWN)
            start = stop
        return ids

    def batch(self, texts: Sequence[str], limit: int = 64) -> list[list[int]]:
        """Rows of equal length, padded at the end."""
        rows = [self.tokens(text, limit) for text in texts]
        longest = max(map(len, rows))
        return [row + [PAD] * (longest - len(row)) for row in rows]
