"""Elements to and from the DICOM JSON model (PS3.18 annex F), with text decoded and cleaned."""

from __future__ import annotations

import base64
import math
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import tag_for_keyword

from radir_pacs.dicom.elements import Bulk, Element, Elements

Attributes = dict[str, Any]
Readable = Mapping[str, Any]  # attributes of others, only read

_CHARACTER_SET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103
_MISSPELT = re.compile(r"^ISO[ _-]?(2022)?[ _-]?IR[ _-]?")
_ENCODED_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # VRs under Specific Character Set
_SINGLE_TEXT = frozenset({"LT", "ST", "UT", "UR"})  # a backslash is text there
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_DELIMITERS = set(b"\\^=\r\n\t\f")  # where a code extension ends (PS3.5 6.1.2.5.3)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_CONTROL_BUT_BREAKS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


def to_json(elements: Elements, *, big_endian: bool = False, encodings: Sequence[str] = ("iso8859",)) -> Attributes:
    """``elements`` as a DICOM JSON data set in ascending tag order. Left-out bulk and group lengths do not appear.

    Text is decoded by (0008,0005) with unknown characters replaced; control and bidirectional override characters
    are removed. Numbers that are none stay text for DS and IS (PS3.18 F.2.3).
    """
    named = elements.get(_CHARACTER_SET)
    if named is not None and isinstance(named.value, bytes):
        encodings = _encodings(named.value)
    signed = elements.get(_PIXEL_REPRESENTATION)
    negative = signed is not None and isinstance(signed.value, bytes) and signed.value.strip(b"\0") != b""
    attributes: Attributes = {}
    for tag in sorted(elements):
        element = elements[tag]
        if tag & 0xFFFF == 0 or isinstance(element.value, Bulk):
            continue
        attributes[f"{tag:08X}"] = _to_json(tag, element, big_endian, encodings, negative)
    return attributes


def _to_json(tag: int, element: Element, big_endian: bool, encodings: Sequence[str], negative: bool) -> Attributes:
    vr, value = element.vr, element.value
    if isinstance(value, list):
        items = [to_json(item, big_endian=big_endian, encodings=encodings) for item in value]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    assert isinstance(value, bytes)
    if vr == "US" and negative and tag in _US_OR_SS:
        vr = "SS"
    if vr in _NUMBERS:
        return _with_value(vr, _numbers(vr, value, big_endian))
    if vr == "AT":
        halves = _numbers("US", value, big_endian)
        return _with_value(vr, [f"{g:04X}{e:04X}" for g, e in zip(halves[::2], halves[1::2], strict=False)])
    if vr in _ENCODED_TEXT or vr in {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}:
        return _with_value(vr, _text_values(vr, value, encodings))
    if big_endian and vr in _WORD_BYTES and len(value) % _WORD_BYTES[vr] == 0:
        value = np.frombuffer(value, f">u{_WORD_BYTES[vr]}").byteswap().tobytes()  # JSON carries little endian
    return {"vr": vr, "InlineBinary": base64.b64encode(value).decode()} if value else {"vr": vr}


# The elements whose VR is "US or SS" by Pixel Representation and that we use.
_US_OR_SS = frozenset({0x00280106, 0x00280107, 0x00280120, 0x00280121})


def _with_value(vr: str, values: list[Any]) -> Attributes:
    return {"vr": vr, "Value": values} if any(v is not None for v in values) else {"vr": vr}


def _numbers(vr: str, value: bytes, big_endian: bool) -> list[Any]:
    code = _NUMBERS[vr]
    count = len(value) // struct.calcsize("<" + code)
    numbers = struct.unpack_from(f"{'>' if big_endian else '<'}{count}{code}", value)
    return [None if isinstance(n, float) and not math.isfinite(n) else n for n in numbers]


def _text_values(vr: str, value: bytes, encodings: Sequence[str]) -> list[Any]:
    text = _decode(value, encodings if vr in _ENCODED_TEXT else ("iso8859",))
    if vr in _SINGLE_TEXT:
        cleaned = _CONTROL_BUT_BREAKS.sub("", text).rstrip()
        return [cleaned] if cleaned else []
    parts = [_CONTROL.sub("", part).strip() for part in text.split("\\")]
    if parts == [""]:
        return []
    if vr == "PN":
        return [_person_name(part) if part else None for part in parts]
    if vr in {"DS", "IS"}:
        return [_number(vr, part) for part in parts]
    return [part or None for part in parts]


def _person_name(text: str) -> dict[str, str]:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {name: group for name, group in groups if group}


def _number(vr: str, text: str) -> float | int | str | None:
    if not text:
        return None
    try:
        if vr == "IS" and len(text) <= 12:
            return int(text)
        number = float(text)
    except ValueError:
        return text[:64]
    return number if math.isfinite(number) else text[:64]


def _decode(value: bytes, encodings: Sequence[str]) -> str:
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns with the value itself
        try:
            return str(decode_bytes(value, list(encodings), _DELIMITERS))
        except (LookupError, UnicodeError, ValueError):
            return value.decode("utf-8", "replace")


def _encodings(value: bytes) -> list[str]:
    """Python codecs for a Specific Character Set, also where its terms are misspelt; UTF-8 where none is known."""
    terms = [part.strip().upper() for part in value.rstrip(b"\0 ").decode("ascii", "replace").split("\\")]
    terms = [_MISSPELT.sub(lambda m: "ISO 2022 IR " if m[1] else "ISO_IR ", term) for term in terms]
    known = [term for term in terms if term in python_encoding]
    if not known or known != terms:
        return ["utf8"]
    return list(convert_encodings(known))


def values(attributes: Readable, keyword: str) -> list[Any]:
    """All values of the attribute named ``keyword``, empty when absent."""
    return _by_tag(attributes, _tag(keyword))


def value(attributes: Readable, keyword: str) -> Any:
    """The first value of the attribute named ``keyword``, or None."""
    found = _by_tag(attributes, _tag(keyword))
    return found[0] if found else None


def text(attributes: Readable, keyword: str) -> str:
    """The first value as text, empty when absent."""
    found = value(attributes, keyword)
    return "" if found is None or isinstance(found, dict) else str(found)


def numbers(attributes: Readable, keyword: str, count: int) -> list[float] | None:
    """Exactly ``count`` finite numbers, or None."""
    found = values(attributes, keyword)
    if len(found) != count or not all(isinstance(n, (int, float)) for n in found):
        return None
    return [float(n) for n in found]


def _by_tag(attributes: Readable, tag: str) -> list[Any]:
    found = attributes.get(tag)
    return list(found.get("Value", ())) if found else []


_TAGS: dict[str, str] = {}


def _tag(keyword: str) -> str:
    if keyword not in _TAGS:
        number = tag_for_keyword(keyword)
        if number is None:
            raise KeyError(keyword)
        _TAGS[keyword] = f"{number:08X}"
    return _TAGS[keyword]
