"""Whether two files hold the same data set, however it was written.

A PACS rewrites an object before it sends it: other file meta information, sequences with or without explicit lengths,
group lengths and padding dropped, implicit for explicit VR. An object that comes by C-STORE and again by STOW differs
in its bytes and is still the same input (P2).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from radir_pacs.dicom.elements import Bulk, Element, Elements, Part10, parse_part10
from radir_pacs.dicom.limits import ReadLimits
from radir_pacs.dicom.transfer_syntaxes import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from radir_pacs.errors import DicomRefused

_LIMITS = ReadLimits()
_PADDING = 0xFFFCFFFC  # Data Set Trailing Padding (PS3.10 7.2)
_STEP_BYTES = 1 << 20


class MappedFile(NamedTuple):
    """A file that was parsed and can still be read."""

    mapped: mmap.mmap
    parsed: Part10


def same_content(one: Path, other: Path) -> bool:
    """Whether two Part-10 files hold the same attributes and pixels.

    Pixels are compared as encoded: another transfer syntax, except implicit for explicit VR, is other content. So is a
    file that cannot be read.
    """
    try:
        with ExitStack() as stack:
            a, b = (mapped_file(path, stack) for path in (one, other))
            if DEFLATED in (syntax_as_compared(a), syntax_as_compared(b)) or a.parsed.cut:
                return False  # offsets in a deflated data set are not offsets in its file
            same_syntax = syntax_as_compared(a) == syntax_as_compared(b)
            return same_syntax and _same(a, a.parsed.elements, b, b.parsed.elements)
    except (DicomRefused, OSError, ValueError):
        return False


def mapped_file(path: Path, stack: ExitStack) -> MappedFile:
    """The file at ``path``, open until the stack ends. Raises DicomRefused, OSError, ValueError for an empty one."""
    file = stack.enter_context(path.open("rb"))
    mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return MappedFile(mapped, parse_part10(mapped, _LIMITS))


def syntax_as_compared(file: MappedFile) -> str:
    """The transfer syntax, with explicit in place of implicit VR, since both write values alike."""
    uid = file.parsed.transfer_syntax_uid
    return EXPLICIT_LITTLE if uid == IMPLICIT_LITTLE else uid


def _same(a: MappedFile, one: Elements, b: MappedFile, other: Elements) -> bool:
    tags = _tags_with_content(one)
    return tags == _tags_with_content(other) and all(same_element(a, one[tag], b, other[tag]) for tag in tags)


def _tags_with_content(elements: Elements) -> list[int]:
    """The tags with content: no group lengths, no padding."""
    return sorted(tag for tag in elements if tag & 0xFFFF and tag != _PADDING)


def same_element(a: MappedFile, one: Element, b: MappedFile, other: Element) -> bool:
    """Whether two elements have the same value, byte for byte except for padding."""
    match one.value, other.value:
        case list(items), list(others):
            return len(items) == len(others) and all(
                _same(a, item, b, against) for item, against in zip(items, others, strict=True)
            )
        case bytes(value), bytes(against):
            return _unpadded(value) == _unpadded(against)
        case Bulk() as bulk, Bulk() as against:
            return bulk[1:] == against[1:] and all(
                piece == counterpart for piece, counterpart in zip(_pieces(a, bulk), _pieces(b, against), strict=True)
            )
        case _:
            return False


def _unpadded(value: bytes) -> bytes:
    """Without the byte that makes a length even (PS3.5 6.2); at most one, since more would be content."""
    return value[:-1] if value[-1:] in (b" ", b"\0") else value


def _pieces(file: MappedFile, bulk: Bulk) -> Iterator[bytes]:
    for start in range(bulk.offset, bulk.offset + bulk.length, _STEP_BYTES):
        yield file.mapped[start : min(start + _STEP_BYTES, bulk.offset + bulk.length)]
