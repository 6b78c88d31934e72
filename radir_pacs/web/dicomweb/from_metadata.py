"""A Part-10 file made from metadata and bulk data (PS3.18 10.5.1.1): Explicit VR Little Endian, pixels as sent."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

from radir_pacs.dicom.bulk_data import PIXEL_DATA
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, DicomRefused, TooLarge
from radir_pacs.storage.blobs import IncomingBlob

from .accept import EXPLICIT_LITTLE
from .bulk_parts import BulkParts, Piece
from .frames import MEDIA_OF_SYNTAX, OTHER_NAMES
from .json_model import Attributes
from .transcode import UNREADABLE

_DEPTH = 32
_IN_MEMORY_BYTES = 64 << 20  # bulk data of one instance, pixels aside
_TAG = re.compile(r"[0-9A-F]{8}")
_NUMBERS = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "UV": "u8", "SV": "i8", "FL": "f4", "FD": "f8"}
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_OTHERS = frozenset({"AE", "AS", "AT", "CS", "DA", "DS", "DT", "IS", "SQ", "TM", "UI"})
_UNDECIDED = frozenset({"OB or OW", "US or OW", "US or SS", "US or SS or OW"})  # as pydicom has them until it writes
_VRS = _NUMBERS.keys() | _TEXT | _BINARY | _OTHERS | _UNDECIDED
_FORMS = frozenset({"Value", "BulkDataURI", "InlineBinary"})
_NOT_KEPT = ("00083002", "FFFCFFFC")  # Available Transfer Syntax UID, Data Set Trailing Padding
_SIGNATURES = 0xFFFA0000  # from here on; a rewritten data set no longer matches its signatures
# Where none is named (PS3.18 tables 8.7.3-2 and 8.7.3-5).
_DEFAULT_SYNTAX = {
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jpx": "1.2.840.10008.1.2.4.92",
}


def write_instance(attributes: Any, bulk: BulkParts, out: IncomingBlob) -> None:
    """Write the instance that ``attributes``, one data set in the DICOM JSON model, describes into ``out``.

    Raises BadInput, DicomRefused, TooLarge, StorageFailed.
    """
    attributes = {tag: found for tag, found in _checked(attributes, 0).items() if tag not in _NOT_KEPT}
    pixels: Sequence[Piece] = ()
    if "BulkDataURI" in attributes.get(PIXEL_DATA, {}):
        pixels = bulk.at(attributes.pop(PIXEL_DATA)["BulkDataURI"])
    left_bytes = _IN_MEMORY_BYTES

    def value(tag: str, vr: str, uri: str) -> Any:
        nonlocal left_bytes
        pieces = bulk.at(uri)
        left_bytes -= sum(piece.length for piece in pieces)
        if left_bytes < 0:
            raise TooLarge("the bulk data beside the pixels are larger than the limit allows")
        return _value(vr, b"".join(chunk for piece in pieces for chunk in bulk.chunks(piece)))

    try:
        ds = Dataset.from_json(attributes, value)
        head = _head(ds, _syntax_of(pixels))
    except UNREADABLE as error:
        raise DicomRefused("the metadata cannot be written as a data set") from error
    out.write(head)
    if pixels:
        words = int(ds.get("BitsAllocated", 16)) > 8
        for chunk in _pixel_data(pixels, bulk, words, ds.file_meta.TransferSyntaxUID != EXPLICIT_LITTLE):
            out.write(chunk)


def _checked(attributes: Any, depth: int) -> Attributes:
    """``attributes``, checked against the DICOM JSON model (PS3.18 F.2), with tags in upper case. Raises BadInput."""
    if depth > _DEPTH:
        raise BadInput("the metadata are nested too deeply")
    if not isinstance(attributes, dict):
        raise BadInput("the metadata are not data sets in the DICOM JSON model (PS3.18 F.2)")
    checked: Attributes = {}
    for tag, found in attributes.items():
        vr = found.get("vr") if isinstance(found, dict) else None
        if not _TAG.fullmatch(tag.upper()) or not isinstance(vr, str) or vr not in _VRS:
            raise BadInput("the metadata contain something that is not an attribute")
        forms = _FORMS & found.keys()
        if len(forms) > 1 or not all(_is_well_formed(form, found) for form in forms):
            raise BadInput(f"the metadata contain a malformed value at {tag.upper()}")
        if found["vr"] == "SQ" and "Value" in found:
            found = {"vr": "SQ", "Value": [_checked(item or {}, depth + 1) for item in found["Value"]]}
        if int(tag[:4], 16) > 0x0002 and int(tag, 16) & 0xFFFF:  # group lengths and file meta are ours to write
            checked[tag.upper()] = found
    return checked


def _is_well_formed(form: str, found: Attributes) -> bool:
    if form == "Value":
        return isinstance(found[form], list)
    if form == "BulkDataURI":
        return isinstance(found[form], str) and found["vr"] != "SQ"
    try:
        base64.b64decode(found[form], validate=True)
    except (TypeError, ValueError, binascii.Error):
        return False
    return found["vr"] in _BINARY | _UNDECIDED


def _value(vr: str, raw: bytes) -> Any:
    if vr in _NUMBERS:
        return np.frombuffer(raw, "<" + _NUMBERS[vr]).tolist()
    if vr in _TEXT:
        return raw.decode("utf-8").rstrip("\0 ")
    return raw


def _syntax_of(pixels: Sequence[Piece]) -> str:
    """The transfer syntax of pixel data of this media type. Raises BadInput."""
    if not pixels:
        return EXPLICIT_LITTLE
    sent_as = pixels[0].media_type
    name = OTHER_NAMES.get(sent_as.name, sent_as.name)
    syntax = sent_as.transfer_syntax or _DEFAULT_SYNTAX.get(name, EXPLICIT_LITTLE)
    if syntax != EXPLICIT_LITTLE and syntax not in MEDIA_OF_SYNTAX:
        raise BadInput("the transfer syntax of the pixel data is not supported")
    return syntax


def _head(ds: Dataset, syntax: str) -> bytes:
    """The file up to its pixel data."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        uid = ds.get(keyword)
        if not isinstance(uid, str) or not is_valid_uid(uid):
            raise DicomRefused(f"{keyword} is missing or not a valid UID")
    for element in [element for element in ds.iterall() if element.tag == 0x00080005]:
        element.value = "ISO_IR 192"
    ds.SpecificCharacterSet = "ISO_IR 192"
    for tag in [element.tag for element in ds if element.tag >= _SIGNATURES]:
        del ds[tag]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    with io.BytesIO() as file:
        pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
        return file.getvalue()


def _pixel_data(pieces: Sequence[Piece], bulk: BulkParts, words: bool, encapsulated: bool) -> Iterator[bytes]:
    """The Pixel Data element: native (PS3.5 8.2), or encapsulated with one fragment per frame (A.4)."""
    total = sum(piece.length for piece in pieces)
    if total > 0xFFFFFFFE - 1:
        raise TooLarge("the pixel data are longer than an element may be")
    if not encapsulated:
        yield struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW" if words else b"OB", 0, total + total % 2)
        for piece in pieces:
            yield from bulk.chunks(piece)
        yield b"\0" * (total % 2)
        return
    yield struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    yield struct.pack("<HHL", 0xFFFE, 0xE000, 0)  # an empty Basic Offset Table
    for piece in pieces:
        yield struct.pack("<HHL", 0xFFFE, 0xE000, piece.length + piece.length % 2)
        yield from bulk.chunks(piece)
        yield b"\0" * (piece.length % 2)
    yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
