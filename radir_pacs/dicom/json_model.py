"""Elements to and from the DICOM JSON model (PS3.18 annex F), with text decoded and cleaned."""

from __future__ import annotations

import base64
import math
import re
import struct
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword

from radir_pacs.dicom.character_sets import CharacterSets, character_sets
from radir_pacs.dicom.elements import NUMBER_VRS, TEXT_VRS, Bulk, Elements, dictionary_vr
from radir_pacs.dicom.number_text import LARGEST, number_in

Attributes = dict[str, Any]
Readable = Mapping[str, Any]  # attributes that are only read

_CHARACTER_SET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103
_ENCODED_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # VRs under Specific Character Set
_SINGLE_TEXT = frozenset({"LT", "ST", "UT", "UR"})  # a backslash is text there
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_OFTEN_BYTES = 64  # what is no longer comes again in each object of a series, and is made once; it bounds what is kept
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DIRECTION = re.compile(r"[\u202a-\u202e\u2066-\u2069\ufeff]")
_CONTROL_BUT_BREAKS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def to_json(
    elements: Elements,
    *,
    big_endian: bool = False,
    fallback_character_set: str = "ISO_IR 100",
    sets: CharacterSets | None = None,
) -> Attributes:
    """``elements`` as a DICOM JSON data set in ascending tag order. Left-out bulk and group lengths do not appear.

    Text is decoded by (0008,0005), or by the ``sets`` of the enclosing data set, and brought to Unicode's composed
    form. A control character becomes a space, so that different texts stay different; in a UID it becomes U+FFFD, so
    that the UID is refused. An attribute with a wrong VR gets the dictionary's where it can be read that way. DS and IS
    values that are not numbers stay text (PS3.18 F.2.3). The attributes may be those of another data set: read only.
    """
    named = elements.get(_CHARACTER_SET)
    if named is not None and isinstance(named.value, bytes):
        sets = character_sets(named.value, fallback_character_set)
    elif sets is None:
        sets = character_sets(b"", fallback_character_set)
    signed = elements.get(_PIXEL_REPRESENTATION)
    negative = signed is not None and isinstance(signed.value, bytes) and signed.value.strip(b"\0 ") not in (b"", b"0")
    attributes: Attributes = {}
    for tag in sorted(elements):
        element = elements[tag]
        if tag & 0xFFFF == 0 or isinstance(element.value, Bulk):
            continue
        if isinstance(element.value, list):
            items = [
                to_json(item, big_endian=big_endian, fallback_character_set=fallback_character_set, sets=sets)
                for item in element.value
            ]
            attributes[f"{tag:08X}"] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        else:
            make = _often if len(element.value) <= _OFTEN_BYTES else _to_json
            attributes[f"{tag:08X}"] = make(tag, element.vr, element.value, big_endian, sets, negative)
    return attributes


def _to_json(tag: int, vr: str, value: bytes, big_endian: bool, sets: CharacterSets, negative: bool) -> Attributes:
    if vr == "US" and negative and tag in _US_OR_SS:
        vr = "SS"
    known = dictionary_vr(tag)
    if vr in NUMBER_VRS and known != "SQ":
        found = _numbers(vr, value, big_endian)
        if known in _DECIMALS and vr != known:
            return _with_value(known, [number_in(known, str(number)) for number in found if number is not None])
        return _with_value(vr, found)
    if vr == "AT" and known != "SQ":
        halves = _numbers("US", value, big_endian)
        return _with_value(vr, [f"{g:04X}{e:04X}" for g, e in zip(halves[::2], halves[1::2], strict=False)])
    if vr in TEXT_VRS and known != "SQ":
        meant = known if known in TEXT_VRS or known in NUMBER_VRS else vr
        if meant in _DECIMALS or meant in NUMBER_VRS:
            found = [number_in(meant, part or "") for part in _text_values("LO", value, sets)]
            if meant in _DECIMALS or not any(isinstance(number, str) for number in found):
                return _with_value(meant, found)
            meant = vr
        return _with_value(meant, _text_values(meant, value, sets))
    if big_endian and vr in _WORD_BYTES and len(value) % _WORD_BYTES[vr] == 0:
        value = np.frombuffer(value, f">u{_WORD_BYTES[vr]}").byteswap().tobytes()  # JSON carries little endian
    if known == "SQ":
        vr = "UN"  # whatever it is, readers that expect items must not find anything else
    return {"vr": vr, "InlineBinary": base64.b64encode(value).decode()} if value else {"vr": vr}


_often = lru_cache(maxsize=8192)(_to_json)  # what it returns is shared: nobody changes an attribute in place

_DECIMALS = frozenset({"DS", "IS"})


# The elements that we use whose VR is "US or SS", depending on Pixel Representation.
_US_OR_SS = frozenset({0x00280106, 0x00280107, 0x00280120, 0x00280121})


def _with_value(vr: str, values: list[Any]) -> Attributes:
    return {"vr": vr, "Value": values} if any(v is not None for v in values) else {"vr": vr}


def _numbers(vr: str, value: bytes, big_endian: bool) -> list[Any]:
    code = _NUMBERS[vr]
    count = len(value) // struct.calcsize("<" + code)
    numbers = struct.unpack_from(f"{'>' if big_endian else '<'}{count}{code}", value)
    return [None if isinstance(n, float) and not math.isfinite(n) else n for n in numbers]


def _text_values(vr: str, value: bytes, sets: CharacterSets) -> list[Any]:
    if vr == "UI":
        text = value.rstrip(b"\0 ").decode("ascii", "replace")
        return [_CONTROL.sub("\ufffd", part.strip(" ")) or None for part in text.split("\\")] if text else []
    text = sets.decode(value) if vr in _ENCODED_TEXT else value.decode("latin_1")
    if not text.isascii():
        text = _DIRECTION.sub("", unicodedata.normalize("NFC", text))
    if vr in _SINGLE_TEXT:
        cleaned = _CONTROL_BUT_BREAKS.sub("", text).rstrip()
        return [cleaned] if cleaned else []
    parts = [part.strip() for part in _CONTROL.sub(" ", text).split("\\")]
    if parts == [""]:
        return []
    if vr == "PN":
        return [_person_name(part) if part else None for part in parts]
    if vr in _OLD_FORMS:
        parts = [_OLD_FORMS[vr].sub(lambda m: "".join(found for found in m.groups() if found), part) for part in parts]
    return [part or None for part in parts]


# Dates and times in the ACR-NEMA forms 1993.08.22 and 10:11:12.5 (PS3.5 6.2), which still occur.
_OLD_FORMS = {
    "DA": re.compile(r"(\d{4})[.\-/](\d{2})[.\-/](\d{2})\Z"),
    "TM": re.compile(r"(\d{2}):(\d{2})(?::(\d{2}(?:\.\d{1,6})?))?\Z"),
}


def _person_name(text: str) -> dict[str, str]:
    """Component groups (PS3.5 6.2.1), without the spaces that pad their components."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    trimmed = ((name, "^".join(part.strip() for part in group.split("^"))) for name, group in groups)
    return {name: group for name, group in trimmed if group}


def values(attributes: Readable, keyword: str) -> list[Any]:
    """All values of the attribute named ``keyword``, empty when absent."""
    return list(_by_tag(attributes, keyword))


def value(attributes: Readable, keyword: str) -> Any:
    """The first value of the attribute named ``keyword``, or None."""
    found = _by_tag(attributes, keyword)
    return found[0] if found else None


def text(attributes: Readable, keyword: str) -> str:
    """The first value as text, empty when absent."""
    found = value(attributes, keyword)
    return "" if found is None or isinstance(found, dict) else str(found)


def number(attributes: Readable, keyword: str) -> float | None:
    """The first value as a number that fits into single precision, or None."""
    return _number(value(attributes, keyword))


def numbers(attributes: Readable, keyword: str, count: int) -> list[float] | None:
    """Exactly ``count`` numbers that fit into single precision, or None."""
    found = [_number(each) for each in values(attributes, keyword)]
    kept = [each for each in found if each is not None]
    return kept if len(found) == len(kept) == count else None


def _number(found: Any) -> float | None:
    """A stored value as a number, also one that an earlier release could not read and stored as text."""
    if isinstance(found, str):
        found = number_in("DS", found)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < LARGEST:
        return None
    return float(found)


def _by_tag(attributes: Readable, keyword: str) -> list[Any]:
    """Whatever is stored, as another version may have done it, or as an item that is not a data set."""
    found = attributes.get(_TAGS.get(keyword) or _tag(keyword)) if isinstance(attributes, dict) else None
    stored = found.get("Value") if isinstance(found, dict) else None
    return stored if isinstance(stored, list) else []


_TAGS: dict[str, str] = {}


def _tag(keyword: str) -> str:
    if keyword not in _TAGS:
        number = tag_for_keyword(keyword)
        if number is None:
            raise KeyError(keyword)
        _TAGS[keyword] = f"{number:08X}"
    return _TAGS[keyword]
