"""C-STORE request and response as bytes (PS3.7 9.3.1), without a data set object for each.

pynetdicom builds several pydicom data sets for every instance, which takes longer than receiving a CT slice.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from radir_pacs.errors import BadInput, DicomRefused

INVALID_INSTANCE, SOP_CLASS_NOT_SUPPORTED = 0x0117, 0x0122  # PS3.7 C.5.9 and C.5.17
_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
# Elements of group 0000 (PS3.7 E.1).
_LENGTH, _SOP_CLASS, _FIELD, _MESSAGE_ID, _ANSWERED_ID = 0x0000, 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _COMMENT, _SOP_INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000
_HEADER = struct.Struct("<HHL")
_UID = re.compile(rb"[0-9.]{1,64}")
_P_DATA_TF, _COMMAND, _LAST_COMMAND = 4, 1, 3  # PS3.8 9.3.5, E.2
_AROUND_FRAGMENT_BYTES = 6  # length, context id, control header: they count towards the maximum length (PS3.8 D.1.1)


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """A C-STORE-RQ. A UID is empty where the peer sent something else; ``refusal`` then says so."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_uid: str
    has_data_set: bool
    refusal: DicomRefused | None = None


def parse(context_id: int, command: bytes | bytearray) -> StoreRequest | None:
    """Read the command set of a C-STORE-RQ; None for another message. Raises BadInput where it cannot be answered."""
    elements = _elements(command)
    if _number(elements.get(_FIELD)) != _C_STORE_RQ:
        return None
    message_id = _number(elements.get(_MESSAGE_ID))
    if message_id is None or _SOP_CLASS not in elements:
        raise BadInput("a C-STORE request lacks a mandatory element")
    sop_class, instance = _uid(elements[_SOP_CLASS]), _uid(elements.get(_SOP_INSTANCE, b""))
    refusal = None
    if not instance:
        refusal = DicomRefused("the Affected SOP Instance UID is not a UID", dimse_status=INVALID_INSTANCE)
    elif not sop_class:
        refusal = DicomRefused("the Affected SOP Class UID is not a UID", dimse_status=SOP_CLASS_NOT_SUPPORTED)
    return StoreRequest(
        context_id=context_id,
        message_id=message_id,
        sop_class_uid=sop_class,
        sop_uid=instance,
        has_data_set=_number(elements.get(_DATA_SET_TYPE)) != _NO_DATA_SET,
        refusal=refusal,
    )


def answer(request: StoreRequest, status: int, comment: str, *, maximum_length: int) -> bytes:
    """The C-STORE-RSP as P-DATA-TF PDUs of at most ``maximum_length`` bytes each (0: no limit).

    comment: Error Comment (0000,0902), of which 64 ASCII characters without a backslash are sent (PS3.7 C.4.2).
    """
    said = comment.encode("ascii", "replace").replace(b"\\", b"/")[:64]
    elements = b"".join(
        (
            _text(_SOP_CLASS, request.sop_class_uid.encode(), b"\0"),
            _short(_FIELD, _C_STORE_RSP),
            _short(_ANSWERED_ID, request.message_id),
            _short(_DATA_SET_TYPE, _NO_DATA_SET),
            _short(_STATUS, status),
            _text(_COMMENT, said, b" ") if said else b"",
            _text(_SOP_INSTANCE, request.sop_uid.encode(), b"\0"),
        )
    )
    command = _HEADER.pack(0, _LENGTH, 4) + struct.pack("<L", len(elements)) + elements
    room = maximum_length - _AROUND_FRAGMENT_BYTES if maximum_length else len(command)
    pdus = []
    for at in range(0, len(command), room):
        fragment = command[at : at + room]
        control = _LAST_COMMAND if at + room >= len(command) else _COMMAND
        item = struct.pack(">LBB", len(fragment) + 2, request.context_id, control) + fragment
        pdus.append(struct.pack(">BBL", _P_DATA_TF, 0, len(item)) + item)
    return b"".join(pdus)


def _elements(command: bytes | bytearray) -> dict[int, bytes]:
    """The values of group 0000 by element number: little endian implicit (PS3.7 6.3.1)."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(command):
        group, number, length = _HEADER.unpack_from(command, at)
        at += 8
        if group or at + length > len(command):
            raise BadInput("the command set of a message cannot be read")
        found[number] = bytes(command[at : at + length])
        at += length
    return found


def _number(value: bytes | None) -> int | None:
    return int.from_bytes(value, "little") if value is not None and len(value) == 2 else None


def _uid(value: bytes) -> str:
    """A UID padded by NUL (PS3.5 9.1) or, by some senders, spaces; empty for what is none."""
    uid = value.rstrip(b"\0 ")
    return uid.decode() if _UID.fullmatch(uid) else ""


def _short(number: int, value: int) -> bytes:
    return _HEADER.pack(0, number, 2) + struct.pack("<H", value)


def _text(number: int, value: bytes, padding: bytes) -> bytes:
    padded = value + padding * (len(value) % 2)
    return _HEADER.pack(0, number, len(padded)) + padded
