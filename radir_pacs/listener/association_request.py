"""Reads an A-ASSOCIATE-RQ (PS3.8 9.3.2) as devices write it, and writes it again as the standard requires.

pynetdicom decodes strictly: an AE title with a control character, a version name that is too long or a user
information item of unknown type ends the connection without an answer. This module reads such requests as DCMTK does
and gives pynetdicom a conformant one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from radir_pacs.errors import BadInput

HEADER_BYTES = 6
A_ASSOCIATE_RQ = 0x01
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
TITLES = slice(10, 42)  # called and calling AE title in RQ and AC

_FIXED_BYTES = 74  # up to the variable items
_APPLICATION_CONTEXT, _PRESENTATION_CONTEXT, _USER_INFORMATION = 0x10, 0x20, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_MAXIMUM_LENGTH, _IMPLEMENTATION_CLASS, _ROLE_SELECTION, _VERSION_NAME = 0x51, 0x52, 0x54, 0x55  # PS3.7 D.3.3
_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd ids from 1 to 255
_MOST_SYNTAXES = 64
_LEAST_PDU_BYTES = 128  # a smaller value would cut a command set into hundreds of fragments
_DEFAULT_PDU_BYTES = 16_384  # where the peer states no maximum length
_UNKNOWN_CLASS = "1.2.840.10008.1"  # where the peer names no implementation class
_VERSION_NAME_BYTES = 16
_TITLE_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class ProposedContext:
    """One presentation context item (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AssociationRequest:
    """What a peer asks for. AE titles have no padding; ``?`` replaces what is not printable ASCII."""

    protocol_version: int
    called_ae: str
    calling_ae: str
    titles: bytes  # as they came, 2 x 16 bytes
    application_context: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int
    implementation_class: str
    version_name: str
    roles: tuple[tuple[str, int, int], ...]  # SOP class, SCU role, SCP role

    @classmethod
    def parse(cls, pdu: bytes) -> AssociationRequest:
        """Read a whole PDU. Raises BadInput where lengths are inconsistent or nothing usable is proposed."""
        if len(pdu) < _FIXED_BYTES:
            raise BadInput(f"an A-ASSOCIATE-RQ of {len(pdu)} bytes is too short")
        application_context, user = "", _UserInformation()
        contexts: dict[int, ProposedContext] = {}
        for kind, value in _items(pdu[_FIXED_BYTES:]):
            if kind == _APPLICATION_CONTEXT:
                application_context = _uid(value)
            elif kind == _PRESENTATION_CONTEXT:
                context = _context(value)
                if context.context_id in contexts:
                    raise BadInput("the A-ASSOCIATE-RQ proposes two presentation contexts with the same id")
                if context.context_id % 2:  # PS3.8 9.3.2.2; an even id is left unanswered
                    contexts[context.context_id] = context
            elif kind == _USER_INFORMATION:
                user.read(value)
        if not contexts:
            raise BadInput("the A-ASSOCIATE-RQ proposes no presentation context")
        return cls(
            protocol_version=int.from_bytes(pdu[6:8], "big"),
            called_ae=_title(pdu[10:26]),
            calling_ae=_title(pdu[26:42]),
            titles=pdu[TITLES],
            application_context=application_context,
            contexts=tuple(contexts.values()),
            maximum_length=user.maximum_length,
            implementation_class=user.implementation_class,
            version_name=user.version_name,
            roles=tuple((uid, scu, scp) for uid, (scu, scp) in user.roles.items()),
        )

    def encode(self) -> bytes:
        """A conformant PDU with the items that matter to us."""
        items = _item(_APPLICATION_CONTEXT, self.application_context.encode())
        for context in self.contexts:
            syntaxes = [(_ABSTRACT_SYNTAX, context.abstract_syntax)]
            syntaxes += [(_TRANSFER_SYNTAX, uid) for uid in context.transfer_syntaxes]
            inner = b"".join(_item(kind, uid.encode()) for kind, uid in syntaxes)
            items += _item(_PRESENTATION_CONTEXT, bytes([context.context_id, 0, 0, 0]) + inner)
        user = _item(_MAXIMUM_LENGTH, struct.pack(">L", self.maximum_length))
        user += _item(_IMPLEMENTATION_CLASS, self.implementation_class.encode())
        for uid, scu, scp in self.roles:
            user += _item(_ROLE_SELECTION, struct.pack(">H", len(uid)) + uid.encode() + bytes([scu, scp]))
        if self.version_name:
            user += _item(_VERSION_NAME, self.version_name.encode())
        items += _item(_USER_INFORMATION, user)
        titles = b"".join((title or "?").encode().ljust(_TITLE_BYTES) for title in (self.called_ae, self.calling_ae))
        body = struct.pack(">HH", 1, 0) + titles + bytes(32) + items
        return struct.pack(">BBL", A_ASSOCIATE_RQ, 0, len(body)) + body


class _UserInformation:
    """Collects the sub-items that matter to us; others are skipped (PS3.8 9.3.1)."""

    def __init__(self) -> None:
        self.maximum_length = _DEFAULT_PDU_BYTES
        self.implementation_class = _UNKNOWN_CLASS
        self.version_name = ""
        self.roles: dict[str, tuple[int, int]] = {}

    def read(self, data: bytes) -> None:
        for kind, value in _items(data):
            if kind == _MAXIMUM_LENGTH and len(value) == 4:
                length = int.from_bytes(value, "big")
                self.maximum_length = max(length, _LEAST_PDU_BYTES) if length else 0  # 0: no limit
            elif kind == _IMPLEMENTATION_CLASS and _uid(value):
                self.implementation_class = _uid(value)
            elif kind == _VERSION_NAME:
                self.version_name = _printable(value[:_VERSION_NAME_BYTES]).strip()
            elif kind == _ROLE_SELECTION and len(self.roles) < _MOST_CONTEXTS:
                length = int.from_bytes(value[:2], "big")
                uid, roles = _uid(value[2 : 2 + length]), value[2 + length :]
                if uid and len(roles) == 2:
                    self.roles.setdefault(uid, (int(roles[0] != 0), int(roles[1] != 0)))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each item in ``data`` (PS3.8 9.3.1). Raises BadInput if one extends beyond the end."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if at + 4 + length > len(data):
            raise BadInput("an item of the A-ASSOCIATE-RQ extends beyond its end")
        yield data[at], data[at + 4 : at + 4 + length]
        at += 4 + length


def _context(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise BadInput("a presentation context of the A-ASSOCIATE-RQ is too short")
    abstract, transfer = "", []
    for kind, name in _items(value[4:]):
        if kind == _ABSTRACT_SYNTAX:
            abstract = _uid(name)
        elif kind == _TRANSFER_SYNTAX and _uid(name):
            transfer.append(_uid(name))
    return ProposedContext(
        context_id=value[0], abstract_syntax=abstract, transfer_syntaxes=tuple(transfer[:_MOST_SYNTAXES])
    )


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _uid(value: bytes) -> str:
    """A UID without its padding; empty, so that it matches nothing, if it is not a UID."""
    text = value.rstrip(b"\0 ").decode("latin-1")
    return text if 0 < len(text) <= 64 and text.isascii() and text.replace(".", "").isdigit() else ""


def _title(value: bytes) -> str:
    """The title up to a NUL, with which C programs pad; spaces around it are not significant (PS3.8 9.3.2)."""
    return _printable(value.split(b"\0", 1)[0]).strip()


def _printable(value: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else "?" for byte in value)
