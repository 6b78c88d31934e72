"""Words that a language writes as one and that mean what their parts mean: "Unterlappenatelektase", "linksbasal".

A compound is cut where ``spelling.toml`` lists each of its parts; the longest first part wins. Inflection and linking
letters ("Verschattungs-areal", "Rippen-fraktur") go with the part before them. Of an unlisted first part, only what it
stands before counts ("Streifenatelektase"), and only where the last part is a finding known for such compounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radir_pacs.reports.tokens import Normaliser

_SHORTEST = 6  # characters of a word that can be a compound
_LONGEST = 60
_LEAST_STRANGE = 3  # characters of an unlisted first part
_CACHE_LIMIT = 200_000


class Compounds:
    """table: "parts", the words that compounds are made of; "heads", those of them that any word may precede;
    "never", first parts that turn the meaning round; "read_as", what a last part means ("-frei")."""

    def __init__(self, table: Mapping[str, Any], normalise: Normaliser) -> None:
        self._normalise = normalise
        self._parts = frozenset(normalise.base(word) for word in table["parts"])
        self._heads = frozenset(normalise.base(word) for word in table["heads"])
        self._never = tuple(normalise.spelt(word) for word in table["never"])
        self._read_as = {
            normalise.base(word): tuple(map(normalise.base, means)) for word, means in table["read_as"].items()
        }
        self._cache: dict[str, tuple[str, ...]] = {}

    def parts(self, word: str) -> tuple[str, ...]:
        """The normal forms of the word's parts; empty where it is not a compound."""
        found = self._cache.get(word)
        if found is None:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            found = self._cache[word] = self._cut(self._normalise.spelt(word))
        return found

    def head(self, word: str) -> tuple[str, ...]:
        """The last part of a compound, which a shortened one before it shares: "Pleura- oder Perikarderguss"."""
        spelt = self._normalise.spelt(word)
        for start in range(2, len(spelt) - 2):
            if (last := self._normalise.stem(spelt[start:])) in self._parts and self._chain(spelt[:start]):
                return (last,)
        return ()

    def _cut(self, word: str) -> tuple[str, ...]:
        if not _SHORTEST <= len(word) <= _LONGEST or self._normalise.stem(word) in self._parts:
            return ()
        found = self._chain(word)
        if not found:
            found = self._headed(word)
        if len(found) > 1 and found[-1] in self._read_as:
            found = (*found[:-1], *self._read_as[found[-1]])
        return found

    def _chain(self, word: str) -> tuple[str, ...]:
        """The listed parts that make up all of ``word``."""
        for end in range(len(word), 1, -1):
            first = self._normalise.stem(word[:end])
            if first in self._parts:
                if end == len(word):
                    return (first,)
                rest = self._chain(word[end:])
                if rest:
                    return (first, *rest)
        return ()

    def _headed(self, word: str) -> tuple[str, ...]:
        """An unlisted first part, then listed ones that end in a head."""
        if word.startswith(self._never):
            return ()
        for start in range(_LEAST_STRANGE, len(word) - _LEAST_STRANGE):
            rest = self._chain(word[start:])
            if rest and rest[-1] in self._heads:
                return (word[:start], *rest)
        return ()
