"""A bounded reader of data elements (PS3.5 chapter 7): the structure of an object without its bulk data.

It replaces pydicom's reader, which in release 3.0 inflates and recurses without bound: 292 KB became 300 MB, and 3,000
nested sequences a RecursionError. This reader counts what it does and never copies pixel data.
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
from radir_pacs.dicom.transfer_syntaxes import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from radir_pacs.errors import DicomRefused
from radir_pacs.types import HeaderNote

Buffer = bytes | mmap.mmap

_IMPLICIT = {IMPLICIT_LITTLE, "1.2.840.113619.5.2"}  # the second: GE private, implicit with big endian pixels

_UNDEFINED = 0xFFFFFFFF
_PREFIX, _META_GROUP = b"DICM", b"\x02\0"
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_FUNCTIONAL_GROUPS = 0x52009229  # from this tag on, an object of many frames may be cut off rather than refused
_LONG_FORM = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
NUMBER_VRS = frozenset({"FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
_VRS = {vr.encode(): vr for vr in _LONG_FORM | TEXT_VRS | NUMBER_VRS | {"AT"}}


class Bulk(NamedTuple):
    """A value left in the file. When encapsulated, ``length`` counts all fragments with their item headers."""

    offset: int
    length: int
    encapsulated: bool


class Element(NamedTuple):
    """One data element: its raw bytes, the items of a sequence, or where a left-out value is in the file."""

    vr: str
    value: bytes | list[Elements] | Bulk


Elements = Mapping[int, Element]


@dataclass(frozen=True, kw_only=True)
class Part10:
    """A parsed file: meta group and data set by tag.

    cut: functional groups did not fit the limits. data_set_at: offset of the data set in the file. notes: how the file
    departs from PS3.10.
    """

    meta: Elements
    elements: Elements
    transfer_syntax_uid: str
    big_endian: bool
    cut: bool
    data_set_at: int
    notes: tuple[HeaderNote, ...] = ()


class _LimitReached(DicomRefused):
    """The header is larger than the limit allows."""


def parse_part10(buffer: Buffer, limits: ReadLimits) -> Part10:
    """Parse a Part-10 file (PS3.10 7.1) from ``buffer``. Raises DicomRefused (0xC000).

    Preamble and file meta information may be missing, as in files of old systems: then the encoding is guessed from the
    data set, which must be uncompressed, since nothing names the compression.
    """
    meta_at, notes = _meta_at(buffer)
    meta, start = ({}, 0) if meta_at is None else _Reader(buffer, limits).meta(meta_at)
    syntax = meta.get(0x00020010)
    if syntax is not None and isinstance(syntax.value, bytes):
        uid = syntax.value.rstrip(b"\0 ").decode("ascii", "replace")
    else:
        uid = _guessed_syntax(buffer, start)
        notes += (HeaderNote.NO_TRANSFER_SYNTAX,)
    whole, data_set_at = buffer, start
    if uid == DEFLATED:
        buffer, start = _inflate(whole[start:], limits.inflated_bytes), 0
    reader = _Reader(buffer, limits, implicit=uid in _IMPLICIT, big_endian=uid == EXPLICIT_BIG)
    if start == len(buffer):
        raise DicomRefused("the file has no data set")
    elements = reader.top(start)
    if HeaderNote.NO_TRANSFER_SYNTAX in notes and _compressed(elements):
        raise DicomRefused("compressed pixels, and no transfer syntax is named")
    return Part10(
        meta=meta,
        elements=elements,
        transfer_syntax_uid=uid,
        big_endian=uid == EXPLICIT_BIG,
        cut=reader.cut,
        data_set_at=data_set_at,
        notes=notes,
    )


def _meta_at(buffer: Buffer) -> tuple[int | None, tuple[HeaderNote, ...]]:
    """Where the file meta information starts (None when there is none), and notes on what is missing before it."""
    starts_at_once = buffer[:2] == b"\x08\0" and buffer[4:6] in _VRS
    if buffer[128:132] == _PREFIX and not (starts_at_once and buffer[132:134] != _META_GROUP):
        return 132, ()  # unless these letters are a value in a data set without a head
    if buffer[:4] == _PREFIX:
        return 4, (HeaderNote.NO_PREAMBLE,)
    if buffer[:2] == _META_GROUP:
        return 0, (HeaderNote.NO_PREAMBLE,)
    return None, (HeaderNote.NO_PREAMBLE,)


def _guessed_syntax(buffer: Buffer, start: int) -> str:
    """The encoding of a data set where it is not stated, guessed from its first element, which is in group 0008."""
    if start and start == len(buffer):
        raise DicomRefused("the file meta information names no transfer syntax")
    group, vr = buffer[start : start + 2], buffer[start + 4 : start + 6]
    if group == b"\x08\0":
        return EXPLICIT_LITTLE if vr in _VRS else IMPLICIT_LITTLE
    if group == b"\0\x08" and vr in _VRS:
        return EXPLICIT_BIG
    raise DicomRefused("not a DICOM file")


def _compressed(elements: Elements) -> bool:
    return any(isinstance(e.value, Bulk) and e.value.encapsulated for tag, e in elements.items() if tag in PIXEL_DATA)


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
def dictionary_vr(tag: int) -> str:
    """The VR of ``tag`` in the data dictionary (PS3.6): the most general where there are several, UN when unknown."""
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
        self.head_at = struct.Struct(order + "HH2sH").unpack_from
        self.tag_at = struct.Struct(order + "HH").unpack_from
        self.long_at = struct.Struct(order + "L").unpack_from
        self.short_at = struct.Struct(order + "H").unpack_from
        self.big_endian = big_endian
        self.elements_left, self.bytes_left = limits.elements, limits.kept_bytes
        self.cut = False

    def count(self) -> None:
        self.elements_left -= 1
        if self.elements_left < 0:
            raise _LimitReached("more data elements than the limit allows", dimse_status=0xA700)

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
            if not self.buffer[pos] and not self.buffer[pos : pos + 8].strip(b"\0"):
                break  # zeros after the data set, with which some writers pad
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
        """The element at ``pos``, and the position after it."""
        if pos + 8 > end:
            raise DicomRefused("truncated: the file ends inside a data element")
        self.count()
        group, number, vr_bytes, length = self.head_at(self.buffer, pos)
        tag = group << 16 | number
        unknown = vr_bytes == b"UN" and not implicit
        if implicit or not (vr_bytes in _VRS or (vr_bytes.isalpha() and vr_bytes.isupper())):
            # An element without a VR in an explicit data set is read as an implicit one, since some writers mix them.
            vr, length, pos = dictionary_vr(tag), self.long_at(self.buffer, pos + 4)[0], pos + 8
        else:
            vr = _VRS.get(vr_bytes) or vr_bytes.decode("ascii")
            if vr in _LONG_FORM:
                if pos + 12 > end:
                    raise DicomRefused("truncated: the file ends inside a data element")
                length, pos = self.long_at(self.buffer, pos + 8)[0], pos + 12
            else:
                pos += 8
            if vr in ("UN", "OB"):
                vr = self.known_vr(tag, vr)
        if length == _UNDEFINED:
            if tag in PIXEL_DATA or (vr in {"OB", "OW"}):
                behind = self.skip_fragments(pos, end)
                return tag, Element(vr, Bulk(pos, behind - pos, True)), behind
            items, pos = self.items(pos, end, depth, implicit or (unknown and self.holds_implicit(pos)), delimited=True)
            return tag, Element("SQ", items), pos
        if pos + length > end:
            raise DicomRefused("truncated: a data element is longer than the file")
        if vr == "SQ":
            implicit = implicit or (unknown and self.holds_implicit(pos))
            try:
                items, behind = self.items(pos, pos + length, depth, implicit, delimited=False)
            except _LimitReached:
                raise
            except DicomRefused:
                if not unknown:
                    raise
                vr = "UN"  # the bytes are not a sequence after all and stay as they are
            else:
                return tag, Element(vr, items), behind
        keep = self.limits.text_bytes if vr in TEXT_VRS else self.limits.binary_bytes
        if tag in PIXEL_DATA or length > keep:
            return tag, Element(vr, Bulk(pos, length, False)), pos + length
        self.bytes_left -= length
        if self.bytes_left < 0:
            raise _LimitReached("the header is larger than the limit allows", dimse_status=0xA700)
        return tag, Element(vr, self.buffer[pos : pos + length]), pos + length

    def known_vr(self, tag: int, vr: str) -> str:
        """The dictionary's VR for an attribute written as UN (PS3.5 6.2.2), or as OB where the dictionary has text.

        Not for numbers in a big endian file: their byte order is unknown.
        """
        known = dictionary_vr(tag)
        if vr == "OB":
            return known if known in TEXT_VRS else vr
        return vr if self.big_endian and known not in TEXT_VRS else known

    def holds_implicit(self, pos: int) -> bool:
        """Whether the sequence at ``pos``, written as UN, is implicit little endian: as PS3.5 6.2.2 note 2 says,
        unless its first element names a VR, as some writers do."""
        return self.buffer[pos + 12 : pos + 14] not in _VRS

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
        """The position after encapsulated pixel data (PS3.5 A.4); every fragment must lie within the file."""
        for _ in range(self.limits.fragments):
            if pos + 8 > end:
                break
            group, number = self.tag_at(self.buffer, pos)
            length = self.long_at(self.buffer, pos + 4)[0]
            pos += 8
            if (group << 16 | number) == _SEQUENCE_END:
                return pos
            if (group << 16 | number) != _ITEM or length == _UNDEFINED:
                raise DicomRefused("compressed pixel data holds something that is not a fragment")
            pos += length
        if pos == end:
            return pos  # the end delimiter is missing but every fragment is whole
        raise DicomRefused("truncated: compressed pixels without end, or in too many pieces")
