"""A bounded reader of data elements (PS3.5 chapter 7): the structure of an object, without its bulk.

Written here rather than left to pydicom because pydicom 3.0 inflates and recurses without bound: 292 KB became 300 MB,
and 3,000 nested sequences a RecursionError. This reader counts what it does and never copies pixel data.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import dictionary_VR

from radir_pacs.dicom.limits import ReadLimits
from radir_pacs.errors import DicomRefused

Buffer = bytes | mmap.mmap

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT = {IMPLICIT_LITTLE, "1.2.840.113619.5.2"}  # the second: GE private, implicit with big endian pixels

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_FUNCTIONAL_GROUPS = 0x52009229  # from here on an object of many frames may be cut off rather than refused
_LONG_FORM = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_TEXT = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)


class Bulk(NamedTuple):
    """A value left in the file. ``length`` counts all fragments with their item headers when encapsulated."""

    offset: int
    length: int
    encapsulated: bool


class Element(NamedTuple):
    """One data element: its raw bytes, the items of a sequence, or where a left-out value stands."""

    vr: str
    value: bytes | list[Elements] | Bulk


Elements = Mapping[int, Element]


@dataclass(frozen=True, kw_only=True)
class Part10:
    """A parsed file: meta group and data set by tag; ``cut`` says that functional groups did not fit the limits."""

    meta: Elements
    elements: Elements
    transfer_syntax_uid: str
    big_endian: bool
    cut: bool


class _LimitReached(DicomRefused):
    """The header is larger than the limit allows."""


def parse_part10(buffer: Buffer, limits: ReadLimits) -> Part10:
    """Parse a Part-10 file (PS3.10 7.1) from ``buffer``. Raises DicomRefused (0xC000)."""
    if len(buffer) < 132 or buffer[128:132] != b"DICM":
        raise DicomRefused("not a DICOM Part 10 file")
    meta_reader = _Reader(buffer, limits)
    meta, start = meta_reader.meta(132)
    syntax = meta.get(0x00020010)
    if syntax is None or not isinstance(syntax.value, bytes):
        raise DicomRefused("the file meta information names no transfer syntax")
    uid = syntax.value.rstrip(b"\0 ").decode("ascii", "replace")
    if uid == DEFLATED:
        buffer, start = _inflate(buffer[start:], limits.inflated_bytes), 0
    reader = _Reader(buffer, limits, implicit=uid in _IMPLICIT, big_endian=uid == EXPLICIT_BIG)
    if start == len(buffer):
        raise DicomRefused("the file has no data set")
    elements = reader.top(start)
    return Part10(meta=meta, elements=elements, transfer_syntax_uid=uid, big_endian=uid == EXPLICIT_BIG, cut=reader.cut)


def _inflate(data: bytes, limit: int) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5), at most ``limit`` bytes of it in memory at any time."""
    try:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        out = inflater.decompress(data, limit)
        if not inflater.eof and inflater.decompress(inflater.unconsumed_tail, 1):
            raise DicomRefused("the deflated data set grows beyond the limit", dimse_status=0xA700)
    except zlib.error as error:
        raise DicomRefused("the deflated data set is damaged") from error
    if not inflater.eof:
        raise DicomRefused("the deflated data set is truncated")
    return out


@lru_cache(maxsize=4096)
def _dictionary_vr(tag: int) -> str:
    """VR of ``tag`` for implicit encodings; ambiguous ones as the most general, unknown ones UN."""
    if tag & 0x1_0000:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"  # private creators are LO (PS3.5 7.8.1)
    if tag & 0xFFFF == 0:
        return "UL"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    if " or " in vr:
        return "OW" if "OW" in vr else "US"
    return vr


class _Reader:
    def __init__(self, buffer: Buffer, limits: ReadLimits, *, implicit: bool = False, big_endian: bool = False) -> None:
        self.buffer, self.limits, self.implicit = buffer, limits, implicit
        order = ">" if big_endian else "<"
        self.tag_at = struct.Struct(order + "HH").unpack_from
        self.long_at = struct.Struct(order + "L").unpack_from
        self.short_at = struct.Struct(order + "H").unpack_from
        self.elements_left, self.bytes_left = limits.elements, limits.kept_bytes
        self.cut = False

    def count(self) -> None:
        self.elements_left -= 1
        if self.elements_left < 0:
            raise _LimitReached("the header has more data elements than the limit allows", dimse_status=0xA700)

    def meta(self, pos: int) -> tuple[Elements, int]:
        """The group 0002 elements from ``pos`` on, and where the data set starts."""
        found: dict[int, Element] = {}
        while pos + 8 <= len(self.buffer) and self.short_at(self.buffer, pos)[0] == 0x0002:
            tag, element, pos = self.element(pos, len(self.buffer), 0, False)
            found[tag] = element
        return found, pos

    def top(self, pos: int) -> Elements:
        found: dict[int, Element] = {}
        end = len(self.buffer)
        while pos < end:
            if self.buffer[pos : pos + 8].strip(b"\0") == b"":
                break  # zeros behind the data set: padding of some writers
            try:
                tag, element, pos = self.element(pos, end, 0, self.implicit)
            except _LimitReached:
                group, number = self.tag_at(self.buffer, pos)
                if (group << 16 | number) < _FUNCTIONAL_GROUPS:
                    raise
                self.cut = True
                break
            found[tag] = element
        return found

    def element(self, pos: int, end: int, depth: int, implicit: bool) -> tuple[int, Element, int]:
        """The element at ``pos``, and the position behind it."""
        if pos + 8 > end:
            raise DicomRefused("truncated: the file ends inside a data element")
        self.count()
        group, number = self.tag_at(self.buffer, pos)
        tag = group << 16 | number
        vr_bytes = self.buffer[pos + 4 : pos + 6]
        if implicit or not (vr_bytes.isalpha() and vr_bytes.isupper()):
            # An element without a VR in an explicit data set is read as an implicit one, as writers in the wild need.
            vr, length, pos = _dictionary_vr(tag), self.long_at(self.buffer, pos + 4)[0], pos + 8
        else:
            vr = vr_bytes.decode("ascii")
            if vr in _LONG_FORM:
                if pos + 12 > end:
                    raise DicomRefused("truncated: the file ends inside a data element")
                length, pos = self.long_at(self.buffer, pos + 8)[0], pos + 12
            else:
                length, pos = self.short_at(self.buffer, pos + 6)[0], pos + 8
        if length == _UNDEFINED:
            if tag in _PIXEL_DATA or (vr in {"OB", "OW"}):
                behind = self.skip_fragments(pos, end)
                return tag, Element(vr, Bulk(pos, behind - pos, True)), behind
            # UN of undefined length holds an implicit little endian sequence (PS3.5 6.2.2, note 7).
            items, pos = self.items(pos, end, depth, implicit or vr == "UN", delimited=True)
            return tag, Element("SQ", items), pos
        if pos + length > end:
            raise DicomRefused("truncated: a data element is longer than the file")
        if vr == "SQ":
            items, behind = self.items(pos, pos + length, depth, implicit, delimited=False)
            return tag, Element(vr, items), behind
        keep = self.limits.text_bytes if vr in _TEXT else self.limits.binary_bytes
        if tag in _PIXEL_DATA or length > keep:
            return tag, Element(vr, Bulk(pos, length, False)), pos + length
        self.bytes_left -= length
        if self.bytes_left < 0:
            raise _LimitReached("the header is larger than the limit allows", dimse_status=0xA700)
        return tag, Element(vr, self.buffer[pos : pos + length]), pos + length

    def items(self, pos: int, end: int, depth: int, implicit: bool, *, delimited: bool) -> tuple[list[Elements], int]:
        """The items of a sequence (PS3.5 7.5)."""
        if depth >= self.limits.depth:
            raise DicomRefused("sequences are nested deeper than the limit allows")
        items: list[Elements] = []
        while pos < end:
            if pos + 8 > end:
                raise DicomRefused("truncated: the file ends inside a sequence")
            group, number = self.tag_at(self.buffer, pos)
            length = self.long_at(self.buffer, pos + 4)[0]
            tag, pos = group << 16 | number, pos + 8
            if tag == _SEQUENCE_END:
                return items, pos
            if tag != _ITEM:
                raise DicomRefused("a sequence holds something that is not an item")
            self.count()
            if length == _UNDEFINED:
                item, pos = self.item(pos, end, depth + 1, implicit, delimited=True)
            elif pos + length > end:
                raise DicomRefused("truncated: a sequence item is longer than the file")
            else:
                item, pos = self.item(pos, pos + length, depth + 1, implicit, delimited=False)
            items.append(item)
        if delimited:
            raise DicomRefused("truncated: the file ends inside a sequence")
        return items, pos

    def item(self, pos: int, end: int, depth: int, implicit: bool, *, delimited: bool) -> tuple[Elements, int]:
        found: dict[int, Element] = {}
        while pos < end:
            if pos + 8 <= end and self.tag_at(self.buffer, pos) == (0xFFFE, 0xE00D):
                return found, pos + 8
            tag, element, pos = self.element(pos, end, depth, implicit)
            found[tag] = element
        if delimited:
            raise DicomRefused("truncated: the file ends inside a sequence item")
        return found, pos

    def skip_fragments(self, pos: int, end: int) -> int:
        """The position behind encapsulated pixel data (PS3.5 A.4); every fragment must lie within the file."""
        for _ in range(self.limits.fragments):
            if pos + 8 > end:
                break
            group, number = self.tag_at(self.buffer, pos)
            length = self.long_at(self.buffer, pos + 4)[0]
            pos += 8
            if (group << 16 | number) == _SEQUENCE_END:
                return pos
            if (group << 16 | number) != _ITEM or length == _UNDEFINED:
                raise DicomRefused("encapsulated pixel data holds something that is not a fragment")
            pos += length
        if pos == end:
            return pos  # the end delimiter is missing but every fragment is whole
        raise DicomRefused("truncated: encapsulated pixel data is longer than the file, or in too many fragments")
