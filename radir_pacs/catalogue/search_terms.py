"""What a search asks of the index over pieces of text: the counterpart of ``search_terms`` in schema.sql.

A row that matches has all terms asked for; a row that has them may still differ, so that the exact comparison decides.
The text of a column stands in the index as its trigrams (three consecutive characters) between a mark for the start and
two for the end: each character begins a trigram, so that a piece of one or two characters is the beginning of some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_START, _END = "\x01", "\x02\x02"
_TERMS_MAX = 16  # of one text: more hardly narrow a search
_CHARACTERS_MAX = 64  # of a whole identifier and of a word
_WRITTEN_WITH_E = frozenset("aou")
_WILDCARDS = re.compile(r"[*?]+")


def text_terms(kind: str, value: str) -> str | None:
    """A tsquery for the texts that match ``value``, which may have the wildcards * and ?; None when any text may.

    ``kind``: n and r for patient and referring physician as folded, i and a for identifiers, d for the description.
    """
    if kind in "ia" and not _WILDCARDS.search(value):  # whole accession numbers have an index of their own
        return _literal("I" + value[:_CHARACTERS_MAX]) if kind == "i" else None
    pieces = [piece for piece in _WILDCARDS.split(_START + value + _END) if piece not in (_START, _END)]
    trigrams = list(dict.fromkeys(piece[at : at + 3] for piece in pieces for at in range(len(piece) - 2)))
    if trigrams:
        step = -(-len(trigrams) // _TERMS_MAX)
        return all_of(_literal(kind + trigram) for trigram in trigrams[::step])
    return all_of(_literal(kind + piece) + ":*" for piece in dict.fromkeys(pieces[:_TERMS_MAX]) if piece)


def word_terms(kind: str, words: Iterable[str]) -> str | None:
    """A tsquery for names in which each of ``words``, spelt as fuzzy matching spells them, begins a word."""
    return all_of(_word_terms(kind, word) for word in words)


def _word_terms(kind: str, word: str) -> str | None:
    """What begins with a wildcard may stand anywhere. Its trigrams are those of the name as it is, unless an a, o or u
    is followed by another character in them: the name may have an e between."""
    beginning, *pieces = _WILDCARDS.split(word)
    if beginning:
        return _literal(kind.upper() + beginning[:_CHARACTERS_MAX]) + ":*"
    trigrams = (piece[at : at + 3] for piece in pieces for at in range(len(piece) - 2))
    certain = dict.fromkeys(trigram for trigram in trigrams if not _WRITTEN_WITH_E.intersection(trigram[:2]))
    return all_of(_literal(kind + trigram) for trigram in list(certain)[:_TERMS_MAX])


def all_of(parts: Iterable[str | None]) -> str | None:
    """What has all of these; a part that is None asks for nothing."""
    given = [f"({part})" for part in parts if part is not None]
    return " & ".join(given) or None


def any_of(parts: Iterable[str | None]) -> str | None:
    """What has one of these; None when one of them is."""
    given = list(parts)
    return None if None in given else " | ".join(f"({part})" for part in given) or None


def _literal(term: str) -> str:
    return "'" + term.replace("\\", "\\\\").replace("'", "''") + "'"
