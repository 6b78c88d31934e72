"""Reading an A-ASSOCIATE-RQ (PS3.8 9.3.2) as devices write it, and writing it again as the standard has it.

pynetdicom decodes strictly: an AE title with a control character, a version name that is too long or a user
information item of unknown type ends the connection without an answer. Here such requests are read as DCMTK reads
them; what pynetdicom is given afterwards is conformant.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

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
_LEAST_PDU_BYTES = 128  # below this a command set would be cut into hundreds of pieces
_DEFAULT_PDU_BYTES = 16_384  # for a peer that does not say what it takes
_UNKNOWN_CLASS = "1.2.840.10008.1"  # an implementation class UID where the peer names none
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
    """What a peer asks for. AE titles are without padding, with ``?`` for what is no printable ASCII character."""

    protocol_version: int
    called_ae: str
    calling_ae: str
    titles: bytes  # as they came, 2 x 16 bytes
    application_context: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int = _DEFAULT_PDU_BYTES
    implementation_class: str = _UNKNOWN_CLASS
    version_name: str = ""
    roles: tuple[tuple[str, int, int], ...] = field(default=())  # SOP class, SCU role, SCP role

    @classmethod
    def parse(cls, pdu: bytes) -> AssociationRequest:
        """Read a whole PDU. Raises BadInput where lengths do not fit or nothing is proposed: it cannot be answered."""
        if len(pdu) < _FIXED_BYTES:
            raise BadInput(f"an A-ASSOCIATE-RQ of {len(pdu)} bytes is too short")
        application_context, contexts, user_items = "", [], []
        for kind, value in _items(pdu[_FIXED_BYTES:]):
            if kind == _APPLICATION_CONTEXT:
                application_context = _uid(value)
            elif kind == _PRESENTATION_CONTEXT:
                context = _context(value)
                if context.context_id % 2:  # an even one breaks PS3.8 9.3.2.2 and is not answered
                    contexts.append(context)
            elif kind == _USER_INFORMATION:
                user_items += list(_items(value))
        if not contexts:
            raise BadInput("the A-ASSOCIATE-RQ proposes no presentation context")
        if len(contexts) > _MOST_CONTEXTS or len({context.context_id for context in contexts}) < len(contexts):
            raise BadInput("the A-ASSOCIATE-RQ proposes too many presentation contexts, or two of one id")
        request = cls(
            protocol_version=int.from_bytes(pdu[6:8], "big"),
            called_ae=_title(pdu[10:26]),
            calling_ae=_title(pdu[26:42]),
            titles=pdu[TITLES],
            application_context=application_context,
            contexts=tuple(contexts),
        )
        for kind, value in user_items:
            request = request._with_user_item(kind, value)
        return request

    def _with_user_item(self, kind: int, value: bytes) -> AssociationRequest:
        """With one sub-item of the user information; those that change nothing for us are skipped (PS3.8 9.3.1)."""
        if kind == _MAXIMUM_LENGTH and len(value) == 4:
            length = int.from_bytes(value, "big")
            return replace(self, maximum_length=max(length, _LEAST_PDU_BYTES) if length else 0)
        if kind == _IMPLEMENTATION_CLASS and _uid(value):
            return replace(self, implementation_class=_uid(value))
        if kind == _VERSION_NAME:
            return replace(self, version_name=_printable(value[:_VERSION_NAME_BYTES]).strip())
        if kind == _ROLE_SELECTION and len(value) >= 4:
            length = int.from_bytes(value[:2], "big")
            uid, roles = _uid(value[2 : 2 + length]), value[2 + length :]
            if uid and len(roles) == 2 and uid not in {role[0] for role in self.roles}:
                return replace(self, roles=(*self.roles, (uid, int(roles[0] != 0), int(roles[1] != 0))))
        return self

    def encode(self) -> bytes:
        """The PDU, conformant, with what matters to us."""
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


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of the items that fill ``data`` (PS3.8 9.3.1). Raises BadInput where one runs over the end."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if at + 4 + length > len(data):
            raise BadInput("an item of the A-ASSOCIATE-RQ runs over its end")
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
    """A UID without its padding; empty for what is none, which then matches nothing."""
    text = value.rstrip(b"\0 ").decode("latin-1")
    return text if 0 < len(text) <= 64 and text.isascii() and text.replace(".", "").isdigit() else ""


def _title(value: bytes) -> str:
    """Up to a NUL, as C programs pad; leading and trailing spaces are not significant (PS3.8 9.3.2)."""
    return _printable(value.split(b"\0", 1)[0]).strip()


def _printable(value: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else "?" for byte in value)
