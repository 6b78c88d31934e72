"""A-ASSOCIATE-RQ PDUs written by hand, and what a server answers to them."""

from __future__ import annotations

import socket
import struct

CT = b"1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = b"1.2.840.10008.1.1"
IMPLICIT = b"1.2.840.10008.1.2"
ANSWERS = {2: "accepted", 3: "rejected", 7: "aborted"}


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def context(abstract: bytes = VERIFICATION, syntaxes: tuple[bytes, ...] = (IMPLICIT,), number: int = 1) -> bytes:
    inner = item(0x30, abstract) + b"".join(item(0x40, uid) for uid in syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + inner)


APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
LENGTH = item(0x51, struct.pack(">L", 16384))
CLASS = item(0x52, b"1.2.3")


def request(
    called: bytes = b"RADIR",
    calling: bytes = b"MODALITY",
    *,
    items: bytes | None = None,
    user: bytes = b"",
    version: int = 1,
) -> bytes:
    body = struct.pack(">HH", version, 0) + called.ljust(16)[:16] + calling.ljust(16)[:16] + bytes(32)
    body += APPLICATION + context() + item(0x50, LENGTH + CLASS + user) if items is None else items
    return struct.pack(">BBL", 1, 0, len(body)) + body


def exchange(port: int, pdu: bytes, timeout_s: float = 20) -> bytes:
    """The first PDU that the server answers, empty when it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
        sock.settimeout(timeout_s)
        sock.sendall(pdu)
        try:
            return receive(sock)
        except ConnectionResetError:
            return b""


def receive(sock: socket.socket) -> bytes:
    head = _exactly(sock, 6)
    return head + _exactly(sock, int.from_bytes(head[2:6], "big")) if len(head) == 6 else b""


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def answer(port: int, pdu: bytes) -> str:
    """accepted, rejected, aborted, or closed."""
    got = exchange(port, pdu)
    return ANSWERS[got[0]] if got else "closed"


def contexts_of(accept: bytes) -> dict[int, tuple[int, str]]:
    """Presentation context id: (result, transfer syntax) of an A-ASSOCIATE-AC."""
    found, at = {}, 74
    while at < len(accept):
        kind, length = accept[at], int.from_bytes(accept[at + 2 : at + 4], "big")
        if kind == 0x21:
            value = accept[at + 4 : at + 4 + length]
            found[value[0]] = (value[2], value[8:].decode())
        at += 4 + length
    return found


def odd_requests() -> dict[str, bytes]:
    """Requests as real devices send them, by name."""
    user = item(0x50, LENGTH + CLASS)
    return {
        "plain": request(),
        "called NUL padded": request(b"RADIR".ljust(16, b"\0")),
        "calling NUL padded": request(calling=b"MODALITY".ljust(16, b"\0")),
        "calling NUL then rubbish": request(calling=b"MOD\0rubbish"),
        "calling Latin-1": request(calling="RÖNTGEN".encode("latin-1")),
        "calling UTF-8": request(calling="RÖNTGEN".encode()),
        "calling with control characters": request(calling=b"MOD\x01\x1bA\tB"),
        "calling with a line end": request(calling=b"MOD\r\nX"),
        "calling with a backslash": request(calling=b"MOD\\X"),
        "calling blank": request(calling=b" " * 16),
        "called blank": request(b" " * 16),
        "both NUL": request(b"\0" * 16, b"\0" * 16),
        "leading blanks": request(b"   RADIR", b"  MODALITY"),
        "16 characters": request(calling=b"ABCDEFGHIJKLMNOP"),
        "version name of 20": request(user=item(0x55, b"VERSION_1234567890AB")),
        "version name of 200": request(user=item(0x55, b"V" * 200)),
        "version name empty": request(user=item(0x55, b"")),
        "version name Latin-1": request(user=item(0x55, "Gerät".encode("latin-1"))),
        "unknown user item": request(user=item(0x60, b"abcd")),
        "unknown user item, empty": request(user=item(0xFF, b"")),
        "user identity": request(user=item(0x58, b"\1\0\0\4user\0\0")),
        "user identity of unknown type": request(user=item(0x58, b"\x09\0\0\4user\0\0")),
        "asynchronous window": request(user=item(0x53, b"\0\0\0\0")),
        "extended negotiation": request(user=item(0x56, struct.pack(">H", len(CT)) + CT + b"\1\1\1")),
        "role selection": request(user=item(0x54, struct.pack(">H", len(CT)) + CT + b"\1\1")),
        "user information first": request(items=user + APPLICATION + context()),
        "context before application": request(items=context() + APPLICATION + user),
        "unknown item": request(items=APPLICATION + item(0x77, b"abcdef") + context() + user),
        "class before length": request(items=APPLICATION + context() + item(0x50, CLASS + LENGTH)),
        "no user information": request(items=APPLICATION + context()),
        "user information empty": request(items=APPLICATION + context() + item(0x50, b"")),
        "no maximum length": request(items=APPLICATION + context() + item(0x50, CLASS)),
        "no implementation class": request(items=APPLICATION + context() + item(0x50, LENGTH)),
        "maximum length 0": request(items=APPLICATION + context() + item(0x50, item(0x51, bytes(4)) + CLASS)),
        "implementation class empty": request(items=APPLICATION + context() + item(0x50, LENGTH + item(0x52, b""))),
        "no application context": request(items=context() + user),
        "application context empty": request(items=item(0x10, b"") + context() + user),
        "application context NUL padded": request(items=item(0x10, APPLICATION[4:] + b"\0") + context() + user),
        "application context of another": request(items=item(0x10, b"1.2.3") + context() + user),
        "no presentation context": request(items=APPLICATION + user),
        "context of even id": request(items=APPLICATION + context(number=2) + user),
        "context without transfer syntax": request(items=APPLICATION + context(syntaxes=()) + user),
        "context with an empty transfer syntax": request(items=APPLICATION + context(syntaxes=(b"",)) + user),
        "context with padded UIDs": request(
            items=APPLICATION + context(VERIFICATION + b"\0", (IMPLICIT + b"\0",)) + user
        ),
        "context without abstract syntax": request(
            items=APPLICATION + item(0x20, b"\1\0\0\0" + item(0x40, IMPLICIT)) + user
        ),
        "unknown sub-item in a context": request(
            items=APPLICATION
            + item(0x20, b"\1\0\0\0" + item(0x30, VERIFICATION) + item(0x99, b"x") + item(0x40, IMPLICIT))
            + user
        ),
        "128 contexts": request(
            items=APPLICATION + b"".join(context(CT, number=number) for number in range(1, 256, 2)) + user
        ),
        "protocol version 3": request(version=3),
        "protocol version 2": request(version=2),
        "protocol version 0": request(version=0),
        "no items": request(items=b""),
        "item over the end": request(items=APPLICATION + context() + user[:-4]),
        "context over its end": request(items=APPLICATION + item(0x20, b"\1\0\0\0\x30\0\0\x20" + CT) + user),
    }
