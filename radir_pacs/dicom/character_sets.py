"""Text in DICOM's character sets (PS3.5 6.1), also where the declared set is missing, misspelt or wrong."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

from pydicom.charset import convert_encodings, decode_bytes, python_encoding

_DELIMITERS = set(b"\\^=\r\n\t\f")  # where a code extension ends (PS3.5 6.1.2.5.3)
_MISSPELT = re.compile(r"^ISO[ _-]?(2022)?[ _-]?IR[ _-]?")
# Names of the same sets outside DICOM, as some systems write them, and the codec of each.
_FOREIGN = re.compile(
    r"(ISO[-_ ]?8859[-_ ]?\d{1,2}|(CP|WINDOWS[-_ ]?)12\d\d|GB2312|BIG5|S(HIFT)?[-_]?JIS|EUC[-_]?(KR|JP)|KOI8[-_]?[RU]"
    r"|UTF[-_]?8)\Z"
)
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "iso_ir_58": "gb18030"}  # the same bytes, and more of them
_DEFAULT = "iso8859"  # pydicom's name for the default repertoire, ASCII
_GB2312_TO_G1 = b"\x1b$)A"  # PS3.5 K.2; pydicom 3.0 leaves it in the text
# Codecs of these sets without escape sequences, which senders often leave out although PS3.5 6.1.2.5 requires them.
_UNESCAPED = {"iso_ir_58": "gb18030", "euc_kr": "euc_kr", "gbk": "gb18030", "gb18030": "gb18030"}
# Sets in which a short word may be valid UTF-8 by accident; in the others such letters would make no sense.
_LOOK_LIKE_UTF8 = frozenset({"shift_jis", "iso_ir_166", "gb18030", "gbk", "gb2312", "euc_kr", "big5"})


@dataclass(frozen=True, kw_only=True, eq=False)  # made once for each name, so that it is a quick key
class CharacterSets:
    """Python codecs: those of Specific Character Set, the default repertoire first, and the fallback."""

    codecs: tuple[str, ...] = ()
    fallback: str = "latin_1"

    def decode(self, value: bytes) -> str:
        """``value`` as text; only what no candidate codec can read is replaced (U+FFFD)."""
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii")
        if b"\x1b" in value:
            return self._decode_extensions(value)
        for codec in self._candidates():
            try:
                return value.decode(codec)
            except (LookupError, UnicodeError):
                continue
        return value.decode(self.fallback, "replace")

    def _candidates(self) -> list[str]:
        """Codecs in the order in which they are tried on bytes beyond ASCII."""
        first = self.codecs[0] if self.codecs else _DEFAULT
        unescaped = [_UNESCAPED[codec] for codec in self.codecs if codec in _UNESCAPED]
        declared = unescaped if first == _DEFAULT else [_SUPERSETS.get(first, first)]
        if first in _LOOK_LIKE_UTF8 or unescaped:
            return [*declared, "utf-8", self.fallback]
        return ["utf-8", *declared, self.fallback]

    def _decode_extensions(self, value: bytes) -> str:
        """Text with escape sequences (PS3.5 6.1.2.5)."""
        if _GB2312_TO_G1 in value:
            plain = value.replace(_GB2312_TO_G1, b"")
            if b"\x1b" not in plain:
                return plain.decode("gb18030", "replace")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns with the value itself
            try:
                return str(decode_bytes(value, list(self.codecs or (_DEFAULT,)), _DELIMITERS))
            except (LookupError, UnicodeError, ValueError):
                return value.decode("utf-8", "replace")


@lru_cache(maxsize=256)
def character_sets(named: bytes, fallback: str) -> CharacterSets:
    """The known sets that Specific Character Set (0008,0005) names.

    fallback: a defined term, for text beyond ASCII in a set that is not named, or not the one named.
    """
    codec = _codec(fallback) or "latin_1"
    terms = [part.strip().upper() for part in named.rstrip(b"\0 ").decode("ascii", "replace").split("\\")]
    terms = [_MISSPELT.sub(lambda m: "ISO 2022 IR " if m[1] else "ISO_IR ", term) for term in terms]
    known = [term for term in terms if term in python_encoding]
    if known == terms and any(terms):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CharacterSets(codecs=tuple(name.lower() for name in convert_encodings(known)), fallback=codec)
    codecs = [found for term in terms if term and (found := _codec(term))]
    return CharacterSets(codecs=tuple(codecs), fallback=codec)


def _codec(term: str) -> str | None:
    if term in python_encoding:
        name = python_encoding[term].lower()
        return _SUPERSETS.get(name, name)
    return term.lower().replace(" ", "-") if _FOREIGN.match(term) else None
