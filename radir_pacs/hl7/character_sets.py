"""Text in the character sets of HL7 (MSH-18, table 0211), also where none is named, a wrong one, or two are mixed."""

from __future__ import annotations

import re
from functools import lru_cache

from radir_pacs.dicom.character_sets import CharacterSets, character_sets

_CODECS = {
    "ASCII": "ascii",
    "UNICODE": "utf-8",  # and no UTF-16, which no frame can hold (HL7 2.9, 2.14.9.18)
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp_ext",
    "ISO IR159": "iso2022_jp_ext",
    "ISO 2022 IR 87": "iso2022_jp_ext",
    "ISO 2022 IR 159": "iso2022_jp_ext",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5hkscs",
}
_PART = re.compile(r"(?:ISO[ _-]?)?8859[/_-](\d{1,2})")
_WINDOWS = re.compile(r"(?:WINDOWS|CP)[-_ ]?(125\d)")
_STATEFUL = frozenset({"iso2022_jp_ext"})


@lru_cache(maxsize=64)
def reader(named: tuple[str, ...], fallback: str) -> CharacterSets:
    """How to read text whose MSH-18 has these repetitions; ``fallback``: a DICOM defined term, where it says nothing.

    Text begins in the first set, and escape sequences change to the others. Only the Japanese ones are used like that
    ("~ISO IR87"); their codec has ASCII too. UTF-8 has every character, whatever follows it.
    """
    terms = [name.strip().upper() for name in named] or [""]
    term = terms[0]
    if _CODECS.get(term) != "utf-8":
        term = next((other for other in terms if _CODECS.get(other) in _STATEFUL), term)
    if term in _CODECS:
        codec = _CODECS[term]
    elif part := _PART.fullmatch(term):
        codec = f"iso8859_{part[1]}"
    elif page := _WINDOWS.fullmatch(term):
        codec = f"cp{page[1]}"
    else:  # a term of DICOM, as some senders write it, or nothing known
        return character_sets(term.encode("ascii", "replace"), fallback)
    return CharacterSets(codecs=(codec,), fallback=character_sets(b"", fallback).fallback)


def decoded(line: bytes, charset: CharacterSets) -> str:
    """One segment as text. Escape sequences change the set only where MSH-18 names a set that has them."""
    if charset.codecs and charset.codecs[0] in _STATEFUL:
        return line.decode(charset.codecs[0], "replace")
    return charset.decode(line.replace(b"\x1b", b""))
