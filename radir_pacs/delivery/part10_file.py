"""Any DICOM file as a Part-10 file with complete File Meta Information (PS3.10 7.1), from which C-STORE sends.

Research folders and old archives hold files without a preamble, and with no File Meta Information or an incomplete one.
Their data set goes unchanged into a temporary file; what cannot be sent is refused with the reason.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import VR

from radir_pacs.dicom.header import read_header
from radir_pacs.errors import BadInput, DicomRefused

_PREAMBLE = bytes(128) + b"DICM"
_META_GROUP = b"\x02\x00"
_NATIVE = {b"\x08\x00": (ExplicitVRLittleEndian, ImplicitVRLittleEndian), b"\x00\x08": (ExplicitVRBigEndian, None)}
_ENCAPSULATED = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)  # PS3.5 A.4
_VRS = {vr.encode() for vr in VR}
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


class NotSendable(BadInput):
    """The file is not a DICOM file that can be sent."""

    code = "not_sendable"


@dataclass(frozen=True, kw_only=True)
class Part10File:
    """``path`` is the file itself, or its complete copy in the scratch folder."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


def part10_file(path: Path, scratch: Path) -> Part10File:
    """``path`` ready to be sent; a copy, where one is needed, is written to ``scratch``. Raises NotSendable."""
    try:
        with path.open("rb") as file:
            start = file.read(140)
        if start[128:132] == b"DICM":
            return _with_meta(path, scratch)
        if start[:4] == b"DICM":
            return _with_meta(_copy(path, scratch, _PREAMBLE, skip=4), scratch)
        if start[:2] == _META_GROUP and start[4:6] in _VRS:
            return _with_meta(_copy(path, scratch, _PREAMBLE, skip=0), scratch)
        return _with_new_meta(path, scratch, _transfer_syntax(path, start), data_set_at=0)
    except (OSError, DicomRefused) as error:
        raise NotSendable(f"cannot be read: {error if isinstance(error, DicomRefused) else error.strerror}") from None


def _with_meta(path: Path, scratch: Path) -> Part10File:
    try:
        meta = read_file_meta_info(path)
    except (InvalidDicomError, AttributeError, ValueError, NotImplementedError, EOFError, struct.error) as error:
        raise NotSendable(f"the File Meta Information cannot be read ({type(error).__name__})") from None
    transfer_syntax_uid = str(meta.get("TransferSyntaxUID", ""))
    sop_class_uid = str(meta.get("MediaStorageSOPClassUID", ""))
    if sop_class_uid == MediaStorageDirectoryStorage:
        raise NotSendable("a DICOMDIR, which lists files and holds no image")
    if transfer_syntax_uid and sop_class_uid and meta.get("MediaStorageSOPInstanceUID"):
        return Part10File(path=path, sop_class_uid=sop_class_uid, transfer_syntax_uid=transfer_syntax_uid)
    length = meta.get("FileMetaInformationGroupLength")
    if length is None:
        raise NotSendable("the File Meta Information is incomplete and does not say where it ends")
    at = len(_PREAMBLE) + 12 + int(length)  # (0002,0000) itself takes 12 bytes
    if not transfer_syntax_uid:
        with path.open("rb") as file:
            file.seek(at)
            transfer_syntax_uid = _transfer_syntax(path, file.read(8))
    return _with_new_meta(path, scratch, transfer_syntax_uid, data_set_at=at)


def _transfer_syntax(path: Path, start: bytes) -> str:
    """The transfer syntax of a native data set, by its first element, which is in group 0008 (PS3.5 7.1).

    Raises NotSendable.
    """
    if start[:2] == _GZIP or start[:4] == _ZIP:
        raise NotSendable("compressed; unpack it first")
    explicit, implicit = _NATIVE.get(start[:2], (None, None))
    found = explicit if start[4:6] in _VRS else implicit
    if found is None:
        raise NotSendable("not a DICOM file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_ENCAPSULATED) >= 0:
            raise NotSendable("compressed pixel data without a transfer syntax")
    return str(found)


def _with_new_meta(path: Path, scratch: Path, transfer_syntax_uid: str, *, data_set_at: int) -> Part10File:
    """The same data set after File Meta Information written by us, with the UIDs of the data set."""
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        raise NotSendable("deflated, and the File Meta Information is incomplete")
    probe = _copy(path, scratch, _PREAMBLE + _meta(transfer_syntax_uid), skip=data_set_at)
    try:
        header = read_header(probe)
    except DicomRefused as error:
        raise NotSendable(f"not a DICOM file that can be read: {error}") from None
    meta = _meta(transfer_syntax_uid, header.sop_class_uid, header.sop_uid)
    return Part10File(
        path=_copy(path, scratch, _PREAMBLE + meta, skip=data_set_at),
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
    )


def _meta(transfer_syntax_uid: str, sop_class_uid: str = "", sop_uid: str = "") -> bytes:
    elements = _element(0x0001, b"OB", b"\0\1")
    if sop_class_uid:
        elements += _element(0x0002, b"UI", sop_class_uid.encode()) + _element(0x0003, b"UI", sop_uid.encode())
    elements += _element(0x0010, b"UI", transfer_syntax_uid.encode())
    return _element(0x0000, b"UL", struct.pack("<L", len(elements))) + elements


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sHL", 0x0002, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _copy(path: Path, scratch: Path, before: bytes, *, skip: int) -> Path:
    """``before`` and what follows the first ``skip`` bytes of ``path``; ``scratch`` holds one copy at a time."""
    copy = scratch / ("b.dcm" if path.parent == scratch and path.name == "a.dcm" else "a.dcm")
    with path.open("rb") as source, copy.open("wb") as target:
        source.seek(skip)
        target.write(before)
        while chunk := source.read(1 << 20):
            target.write(chunk)
    return copy
