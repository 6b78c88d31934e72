"""Preamble and file meta information (PS3.10 7.1) for files without them, or with those of another instance."""

from __future__ import annotations

import struct
from pathlib import Path

from radir_pacs.dicom.header import read_part10
from radir_pacs.types import HeaderNote, InstanceHeader

IMPLEMENTATION_CLASS_UID = "2.25.98730215539478123064051378402937561048"
_WRONG = frozenset({HeaderNote.NO_PREAMBLE, HeaderNote.NO_TRANSFER_SYNTAX, HeaderNote.META_DIFFERS})


def needs_head(header: InstanceHeader) -> bool:
    """Whether the file that ``header`` was read from has no head, or that of another instance."""
    return not _WRONG.isdisjoint(header.notes)


def head_for(header: InstanceHeader, path: Path) -> tuple[bytes, int]:
    """The head that belongs before the data set of the file at ``path``, and where that data set starts in it.

    The same file always gets the same head, so that it is recognised when it comes again. Raises DicomRefused.
    """
    head = file_head(
        sop_class_uid=header.sop_class_uid,
        sop_uid=header.sop_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
    )
    return head, read_part10(path).data_set_at


def file_head(
    *,
    sop_class_uid: str,
    sop_uid: str,
    transfer_syntax_uid: str,
    implementation_class_uid: str,
    implementation_version: str = "",
) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1)."""
    group = _element(0x0001, b"OB\0\0", "<L", b"\0\1") + b"".join(
        _element(number, b"UI", "<H", uid.encode() + b"\0" * (len(uid) % 2))
        for number, uid in (
            (0x0002, sop_class_uid),
            (0x0003, sop_uid),
            (0x0010, transfer_syntax_uid),
            (0x0012, implementation_class_uid),
        )
    )
    if implementation_version:
        version = implementation_version.encode()
        group += _element(0x0013, b"SH", "<H", version + b" " * (len(version) % 2))
    length = _element(0x0000, b"UL", "<H", struct.pack("<L", len(group)))
    return bytes(128) + b"DICM" + length + group


def _element(number: int, vr: bytes, length: str, value: bytes) -> bytes:
    return struct.pack("<HH", 2, number) + vr + struct.pack(length, len(value)) + value
