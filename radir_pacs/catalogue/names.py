"""Person names folded for comparison, in any case and alphabet, whatever the locale of the database."""

from __future__ import annotations

import re
import unicodedata

_ACCENTS = re.compile(r"[\u0300-\u036f]")  # of Latin, Greek and Cyrillic; the voicing marks of kana tell names apart
_WITHOUT_PARTS = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})


def folded(name: str) -> str:
    """``name`` without case, accents and compatibility forms (Unicode NFKC, chapter 3.13); delimiters stay.

    PS3.4 C.2.2.2.1 leaves case and accents in the matching of PN to the implementation.
    """
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", name)).casefold().translate(_WITHOUT_PARTS)
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", bare))


def spelt_alike(folded_name: str) -> str:
    """A folded name with ae, oe, ue written a, o, u: for fuzzy matching, Mueller, Müller and Muller are one."""
    return re.sub("([aou])e", r"\1", folded_name)
