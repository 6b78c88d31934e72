"""Values too large for a header: the DICOM JSON model names where they are, and they are read from the file.

A BulkDataURI is kept relative to the instance (PS3.18 F.2.6): the tags that lead to the value, with item numbers from 1
between them, as in ``00540016/1/00181078``.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.encaps import generate_fragments

from radir_pacs.dicom.elements import Bulk, Element, Elements, Part10, parse_part10
from radir_pacs.dicom.json_model import Attributes, Readable, to_json
from radir_pacs.dicom.limits import MIB, ReadLimits
from radir_pacs.dicom.transfer_syntaxes import DEFLATED
from radir_pacs.errors import BadInput, DicomRefused, NotFound, TooLarge

PIXEL_DATA = "7FE00010"
_LIMITS = ReadLimits(elements=500_000, kept_bytes=32 * MIB)
_IN_MEMORY_BYTES = 64 * MIB  # values that must be rewritten: swapped, inflated, decoded, taken out of fragments
_INFLATED = ReadLimits(binary_bytes=_IN_MEMORY_BYTES, text_bytes=_IN_MEMORY_BYTES, kept_bytes=_IN_MEMORY_BYTES)
_CHARACTER_SET = 0x00080005
_DELIMITERS = 0xFFFE
_TEXT = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
_STEP = re.compile(r"[0-9A-Fa-f]{8}|[1-9][0-9]{0,6}")
_WORD_BYTES = {"OW": 2, "US": 2, "SS": 2, "AT": 2, "OF": 4, "OL": 4, "UL": 4, "SL": 4, "FL": 4}
_WORD_BYTES |= dict.fromkeys(("OD", "OV", "FD", "UV", "SV"), 8)


@dataclass(frozen=True, kw_only=True)
class Span:
    """``length`` bytes of a file from ``offset`` on."""

    offset: int
    length: int


def name_bulk_data(attributes: Attributes, elements: Elements, above: str = "") -> None:
    """Add a relative BulkDataURI to ``attributes``, made from ``elements``, for each value left out; keys ascend.

    Stray sequence and item delimiters (group FFFE), which some writers leave behind, are removed.
    """
    for tag, element in elements.items():
        value = element.value
        if tag >> 16 == _DELIMITERS:
            attributes.pop(f"{tag:08X}", None)
        elif isinstance(value, Bulk):
            attributes[f"{tag:08X}"] = {"vr": element.vr, "BulkDataURI": f"{above}{tag:08X}"}
        elif isinstance(value, list):
            items = attributes[f"{tag:08X}"].get("Value", ())
            for number, (item, found) in enumerate(zip(items, value, strict=False), 1):
                name_bulk_data(item, found, f"{above}{tag:08X}/{number}/")
    ordered = sorted(attributes)
    if list(attributes) != ordered:
        found_in = dict(attributes)
        attributes.clear()
        attributes.update((name, found_in[name]) for name in ordered)


def placed(attributes: Readable, place: Callable[[str], str | None]) -> Attributes:
    """``attributes`` with ``place`` applied to each BulkDataURI; attributes for which it returns None are left out."""
    made: Attributes = {}
    for tag, found in attributes.items():
        if not isinstance(found, Mapping) or "vr" not in found:
            continue  # what an earlier release stored must not break an answer
        if "BulkDataURI" in found:
            uri = place(found["BulkDataURI"])
            if uri is not None:
                made[tag] = {**found, "BulkDataURI": uri}
        elif found["vr"] == "SQ" and "Value" in found:
            items = (item if isinstance(item, Mapping) else {} for item in found["Value"])
            made[tag] = {**found, "Value": [placed(item, place) for item in items]}
        else:
            made[tag] = dict(found)
    return made


def without_bulk_data(attributes: Readable) -> Attributes:
    """``attributes`` without those that only have a BulkDataURI, at every level."""
    return placed(attributes, lambda _: None)


def find_bulk_data(path: Path, where: str) -> Span | bytes:
    """The value at ``where`` in the Part-10 file: text as UTF-8, numbers little endian, fragments joined.

    Raises BadInput for a malformed path, NotFound when there is no such value, DicomRefused, TooLarge.
    """
    steps = where.upper().split("/")
    if len(steps) % 2 == 0 or not all(_STEP.fullmatch(step) for step in steps):
        raise BadInput("a path to bulk data is tags with item numbers between them")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            parsed = parse_part10(mapped, _LIMITS)
            if parsed.transfer_syntax_uid == DEFLATED:
                parsed = parse_part10(mapped, _INFLATED)
            return _value(mapped, parsed, steps)
    except ValueError as error:  # an empty file cannot be mapped
        raise DicomRefused("the file is empty") from error


def _value(mapped: mmap.mmap, parsed: Part10, steps: Sequence[str]) -> Span | bytes:
    element, character_set = _element(parsed.elements, steps)
    value, big_endian = element.value, parsed.big_endian
    size = _WORD_BYTES.get(element.vr, 1) if big_endian else 1
    if isinstance(value, Bulk):
        if parsed.transfer_syntax_uid == DEFLATED:
            raise NotFound("the value is only available in the instance, whose transfer syntax is deflated")
        if size == 1 and not value.encapsulated and element.vr not in _TEXT:
            return Span(offset=value.offset, length=value.length)
        if value.length > _IN_MEMORY_BYTES:
            raise TooLarge("the value is too large to be rewritten; ask for the instance")
        raw = mapped[value.offset : value.offset + value.length]
        if value.encapsulated:  # the first item is the Basic Offset Table (PS3.5 A.4)
            return b"".join(list(generate_fragments(raw))[1:])
    else:
        assert isinstance(value, bytes)
        raw = value
    if element.vr in _TEXT:
        return _utf8(raw, element.vr, character_set)
    return np.frombuffer(raw, f">u{size}").byteswap().tobytes() if size > 1 and len(raw) % size == 0 else raw


def _element(elements: Elements, steps: Sequence[str]) -> tuple[Element, Element | None]:
    """The element at the end of ``steps``, and the Specific Character Set that applies there."""
    character_set = elements.get(_CHARACTER_SET)
    for tag, number in zip(steps[:-1:2], steps[1::2], strict=True):
        sequence = elements.get(int(tag, 16))
        items = sequence.value if sequence is not None else None
        if not isinstance(items, list) or not 1 <= int(number) <= len(items):
            raise NotFound("there is no such item in the instance")
        elements = items[int(number) - 1]
        character_set = elements.get(_CHARACTER_SET, character_set)
    element = elements.get(int(steps[-1], 16))
    if element is None or isinstance(element.value, list):
        raise NotFound("there is no such value in the instance")
    return element, character_set


def _utf8(raw: bytes, vr: str, character_set: Element | None) -> bytes:
    """Text in UTF-8, as the metadata declares it, whatever the character set of the file."""
    elements = {0x00400000 | 0xA160: Element(vr, raw)}
    if character_set is not None:
        elements[_CHARACTER_SET] = character_set
    values = to_json(elements)["0040A160"].get("Value", [])
    return "\\".join(value or "" for value in values).encode()
