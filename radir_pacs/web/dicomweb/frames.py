"""Frames of a stored instance: as they are in the file, or decoded (PS3.18 10.4.1.1.6, table 8.7.3-5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.encaps import get_frame

from radir_pacs.dicom.elements import Bulk, Elements
from radir_pacs.dicom.header import read_part10
from radir_pacs.dicom.transfer_syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE, NATIVE
from radir_pacs.errors import BadInput, DicomRefused, NotAcceptable, NotFound
from radir_pacs.web.pixels import SharedDecoder

from .accept import OCTETS, asked_for
from .multipart import Body, FileSlice

FRAMES_A_REQUEST = 2000

_JPEG = "1.2.840.10008.1.2.4."
MEDIA_OF_SYNTAX = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    **dict.fromkeys([_JPEG + n for n in ("50", "51", "57", "70")], "image/jpeg"),
    **dict.fromkeys([_JPEG + n for n in ("80", "81")], "image/jls"),
    **dict.fromkeys([_JPEG + n for n in ("90", "91")], "image/jp2"),
    **dict.fromkeys([_JPEG + n for n in ("92", "93")], "image/jpx"),
    **dict.fromkeys([_JPEG + n for n in ("110", "111", "112")], "image/jxl"),
    **dict.fromkeys([_JPEG + n for n in ("201", "202", "203")], "image/jphc"),
}
# Names in use before the registered ones, or in the retired editions of PS3.18.
OTHER_NAMES = {
    "image/x-dicom-rle": "image/dicom-rle",
    "image/dicom+rle": "image/dicom-rle",
    "image/x-jls": "image/jls",
    "image/dicom+jpeg-ls": "image/jls",
    "image/dicom+jpeg": "image/jpeg",
    "image/dicom+jp2": "image/jp2",
    "image/dicom+jpx": "image/jpx",
}


@dataclass(frozen=True, kw_only=True)
class Form:
    """How frames are returned: as parts or alone, in which media type and transfer syntax."""

    multipart: bool
    media_type: str
    transfer_syntax: str

    @property
    def content_type(self) -> str:
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}"


def choose_form(stored_syntax: str, *, alone: bool) -> Form:
    """The form that the current request prefers, of those we can offer. ``alone``: one frame may be the whole body.

    Raises NotAcceptable.
    """
    own_media = MEDIA_OF_SYNTAX.get(stored_syntax)
    native = stored_syntax in NATIVE
    for asked in asked_for():
        parts = asked.takes_parts
        named = (asked.part or "*/*") if asked.name.startswith("multipart/") else asked.name
        media = OTHER_NAMES.get(named, named)
        if not parts and not alone:
            continue
        syntax = asked.transfer_syntax
        if media in (OCTETS, "*/*", "application/*"):
            if syntax in (None, EXPLICIT_LITTLE) or (syntax == "*" and native):
                return Form(multipart=parts, media_type=OCTETS, transfer_syntax=EXPLICIT_LITTLE)
            if syntax in ("*", stored_syntax) and not native:
                return Form(multipart=parts, media_type=OCTETS, transfer_syntax=stored_syntax)
        if own_media and media in (own_media, "image/*", "*/*") and syntax in (None, "*", stored_syntax):
            answered = named if named in OTHER_NAMES else own_media
            return Form(multipart=parts, media_type=answered, transfer_syntax=stored_syntax)
    raise NotAcceptable(f"available here: {OCTETS}" + (f", {own_media}" if own_media else ""))


def parse_frame_list(text: str, frames: int) -> list[int]:
    """Frame numbers from 1 on, as ``1,2,3``. Raises BadInput, or NotFound for one that the instance does not have."""
    pieces = text.split(",")
    if len(pieces) > FRAMES_A_REQUEST:
        raise BadInput(f"more than {FRAMES_A_REQUEST} frames in one request")
    if not all(piece.isascii() and piece.isdigit() and len(piece) <= 9 and int(piece) > 0 for piece in pieces):
        raise BadInput("the frame list is numbers from 1 on with commas between them")
    numbers = [int(piece) for piece in pieces]
    if max(numbers) > frames:
        raise NotFound(f"the instance has {frames} frame" + "s" * (frames != 1))
    return numbers


def frame_bodies(path: Path, numbers: list[int], form: Form, decoder: SharedDecoder) -> list[Body]:
    """One body for each frame number. Raises NotFound without pixel data, DicomRefused when it cannot be read."""
    part10 = read_part10(path)
    pixel_data = part10.elements.get(0x7FE00010)
    if pixel_data is None or not isinstance(pixel_data.value, Bulk):
        raise NotFound("the instance has no pixel data")
    bulk = pixel_data.value
    if form.transfer_syntax != EXPLICIT_LITTLE:
        return [_encapsulated(path, bulk, number, _int(part10.elements, 0x00280008, 1)) for number in numbers]
    if part10.transfer_syntax_uid in (IMPLICIT_LITTLE, EXPLICIT_LITTLE) and not bulk.encapsulated:
        bits = 1
        for tag in (0x00280010, 0x00280011, 0x00280002, 0x00280100):  # rows, columns, samples, bits allocated
            bits *= _int(part10.elements, tag, 1)
        if bits % 8 == 0 and max(numbers) * bits // 8 <= bulk.length:
            size = bits // 8
            return [FileSlice(path=path, offset=bulk.offset + (n - 1) * size, length=size) for n in numbers]
    with decoder.lent() as lent:
        pixels = lent.decode(path).pixels
    if max(numbers) > len(pixels):
        raise NotFound(f"the instance has {len(pixels)} frames")
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    return [np.ascontiguousarray(little[number - 1]).tobytes() for number in numbers]


def _int(elements: Elements, tag: int, default: int) -> int:
    """A US or IS of a little endian header."""
    element = elements.get(tag)
    if element is None or not isinstance(element.value, bytes):
        return default
    try:
        if element.vr in ("US", "OW", "UN") and len(element.value) == 2:
            return int(struct.unpack("<H", element.value)[0])
        return int(element.value.decode("ascii").strip("\0 ") or default)
    except ValueError:
        return default


def _encapsulated(path: Path, bulk: Bulk, number: int, frames: int) -> bytes:
    if not bulk.encapsulated:
        raise DicomRefused("the pixel data are not encapsulated")
    with path.open("rb") as file:
        file.seek(bulk.offset)
        try:
            return get_frame(file, number - 1, number_of_frames=frames)
        except (ValueError, struct.error, EOFError) as error:
            raise DicomRefused("the frames cannot be separated in the pixel data") from error
