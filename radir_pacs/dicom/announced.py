"""The UIDs in the file meta information, to identify an object that cannot be read."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from radir_pacs.dicom.uids import is_valid_uid

_LOOKED_AT_BYTES = 4096  # enough: the file meta information comes first, in Explicit VR Little Endian (PS3.10 7.1)
_SOP_CLASS, _SOP_INSTANCE = b"\x02\x00\x02\x00UI", b"\x02\x00\x03\x00UI"


def announced_uids(path: Path) -> tuple[str, str]:
    """SOP class UID and SOP instance UID from the file meta information; empty where they are not found."""
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT_BYTES)
    return _uid(head, _SOP_CLASS), _uid(head, _SOP_INSTANCE)


def _uid(head: bytes, element: bytes) -> str:
    found = re.search(re.escape(element) + rb"(..)", head, re.DOTALL)
    if found is None:
        return ""
    (length,) = struct.unpack("<H", found[1])
    uid = head[found.end() : found.end() + length].rstrip(b"\0 ").decode("ascii", "replace")
    return uid if is_valid_uid(uid) else ""
