"""The difference between two files of one instance: only attributes (a correction), or the pixels as well."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import numpy as np
from pydicom.datadict import keyword_for_tag

from radir_pacs.dicom.bulk_data import without_bulk_data
from radir_pacs.dicom.elements import PIXEL_DATA, Bulk, Element, Elements
from radir_pacs.dicom.json_model import Attributes, Readable, number, to_json
from radir_pacs.dicom.limits import MIB, DecodeLimits
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.same_content import MappedFile, mapped_file, same_element, syntax_as_compared
from radir_pacs.dicom.transfer_syntaxes import DEFLATED
from radir_pacs.errors import DicomRefused

# Files are compared in the process that stores them, so the bounds are smaller than for encoding.
COMPARE_LIMITS = DecodeLimits(pixel_bytes=256 * MIB, memory_bytes=2048 * MIB)

_DECODING = threading.Lock()  # one comparison at a time in a process: each holds the pixels of a whole image (P6)

_SHAPE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
# How pixels are laid out; where their values are equal, these attributes do not change the image.
_WRITING = frozenset({0x00280004, 0x00280006})  # Photometric Interpretation, Planar Configuration
_LEFT_OUT = PIXEL_DATA | {0xFFFCFFFC}  # Data Set Trailing Padding (PS3.10 7.2)


class Pixels(Enum):
    """How the pixels of a later file compare with the stored ones."""

    SAME = auto()
    OTHER = auto()
    MENDED = auto()  # the stored ones cannot be decoded, those of the later file can


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``changed``: keywords of the attributes that differ (tags where there is no keyword), never their values."""

    pixels: Pixels
    changed: tuple[str, ...] = ()
    reencodes: bool = False  # one of the attributes may change what the network sees


def difference(stored: Path, later: Path, stored_sha256: str, stored_attributes: Readable) -> Difference:
    """What differs in the file ``later`` from the one that is ``stored`` under its hash and attributes.

    Raises DicomRefused when ``later`` cannot be read.
    """
    with ExitStack() as stack:
        new = mapped_file(later, stack)
        attributes = _attributes(new)
        old = _opened(stored, stored_sha256, stack)
        if old is None:
            return _described(Pixels.MENDED, _changed(without_bulk_data(stored_attributes), attributes))
        before = _attributes(old)
        tags = _changed(before, attributes)
        # Offsets in a deflated data set are not offsets in its file, so long values and bytes cannot be compared there.
        if comparable := DEFLATED not in (syntax_as_compared(old), syntax_as_compared(new)):
            tags |= _changed_bulk(old, old.parsed.elements, new, new.parsed.elements)
        if not (_has_pixels(old) or _has_pixels(new)):
            return _described(Pixels.SAME, tags)
        if comparable and _same_bytes(old, before, new, attributes):
            return _described(Pixels.SAME, tags)
        pixels = _compare_decoded(stored, later, had_pixels=_has_pixels(old), has_pixels=_has_pixels(new))
    return _described(pixels, tags - _WRITING if pixels is Pixels.SAME else tags)


def _opened(path: Path, sha256: str, stack: ExitStack) -> MappedFile | None:
    """The stored file; None when it is missing, damaged or was never complete."""
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return None
        return mapped_file(path, stack)
    except (OSError, ValueError, DicomRefused):
        return None


def _attributes(file: MappedFile) -> Attributes:
    return to_json(file.parsed.elements, big_endian=file.parsed.big_endian)


def _changed(before: Readable, after: Readable) -> set[int]:
    names = {name for name in (*before, *after) if before.get(name) != after.get(name)}
    return {tag for tag in (int(name, 16) for name in names) if tag not in _LEFT_OUT}


def _changed_bulk(old: MappedFile, one: Elements, new: MappedFile, other: Elements) -> set[int]:
    """The attributes that differ among those whose value was too long for the header, at any depth."""
    tags = {tag for tag in (*one, *other) if tag not in _LEFT_OUT}
    return {tag for tag in tags if not _same_bulk(old, one.get(tag), new, other.get(tag))}


def _same_bulk(old: MappedFile, one: Element | None, new: MappedFile, other: Element | None) -> bool:
    match one and one.value, other and other.value:
        case list(items), list(others):
            pairs = zip(items, others, strict=False)  # another number of items is seen in the attributes
            return not any(_changed_bulk(old, item, new, counterpart) for item, counterpart in pairs)
        case (Bulk(), _) | (_, Bulk()):
            return one is not None and other is not None and same_element(old, one, new, other)
        case _:
            return True


def _has_pixels(file: MappedFile) -> bool:
    return any(tag in file.parsed.elements for tag in PIXEL_DATA)


def _same_bytes(old: MappedFile, before: Readable, new: MappedFile, after: Readable) -> bool:
    """Whether the encoded pixels are the same and have the same shape."""
    if any(number(before, keyword) != number(after, keyword) for keyword in _SHAPE):
        return False
    pairs = [(old.parsed.elements.get(tag), new.parsed.elements.get(tag)) for tag in sorted(PIXEL_DATA)]
    return syntax_as_compared(old) == syntax_as_compared(new) and all(
        one is other or (one is not None and other is not None and same_element(old, one, new, other))
        for one, other in pairs
    )


def _compare_decoded(stored: Path, later: Path, *, had_pixels: bool, has_pixels: bool) -> Pixels:
    if not has_pixels:
        return Pixels.OTHER
    with _DECODING, PixelDecoder(COMPARE_LIMITS) as decoder:
        try:
            now = _digest(decoder, later)
        except DicomRefused:
            return Pixels.OTHER
        if not had_pixels:
            return Pixels.MENDED
        try:
            return Pixels.SAME if _digest(decoder, stored) == now else Pixels.OTHER
        except DicomRefused:
            return Pixels.MENDED


def _digest(decoder: PixelDecoder, path: Path) -> tuple[tuple[int, ...], str]:
    """A digest of the shape and values of all frames, whatever integer type holds them."""
    pixels = decoder.decode(path).pixels
    digest = hashlib.sha256()
    for frame in pixels:
        whole = frame.dtype.kind in "iub"
        digest.update(np.ascontiguousarray(frame, np.int64 if whole else np.float64).data)
    return pixels.shape, digest.hexdigest()


def _described(pixels: Pixels, tags: set[int]) -> Difference:
    return Difference(
        pixels=pixels,
        changed=tuple(keyword_for_tag(tag) or f"{tag:08X}" for tag in sorted(tags)),
        reencodes=pixels is Pixels.MENDED or any(_seen_by_the_network(tag) for tag in tags),
    )


def _seen_by_the_network(tag: int) -> bool:
    """Whether encoding may read the attribute: to choose the study's image, its geometry, its grey values.

    It does not read patients, visits, requests and procedures, so a corrected name costs no encoding.
    """
    return tag >> 16 in _GROUPS or tag in _OF_OTHER_GROUPS


_GROUPS = frozenset({0x0018, 0x0020, 0x0022, 0x0028, 0x0054, 0x2050, 0x5200})
_OF_OTHER_GROUPS: Mapping[int, str] = {
    0x00080008: "ImageType",
    0x00080060: "Modality",
    0x00081030: "StudyDescription",
    0x0008103E: "SeriesDescription",
    0x00321060: "RequestedProcedureDescription",
}
