"""Half-open connections: accepted by TCP, but without a complete A-ASSOCIATE-RQ yet.

Each costs a socket and a small buffer in one thread, and none of the associations' slots. The pool has a fixed size;
when it is full, the oldest connection of the address with the most connections is closed, so that a peer that sends
its request at once always gets through (P6).
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from radir_pacs.access.peers import Certificate
from radir_pacs.errors import BadInput
from radir_pacs.listener.association_request import A_ASSOCIATE_RQ, HEADER_BYTES, AssociationRequest
from radir_pacs.listener.bell import Bell

MOST_WAITING = 128
_MOST_BYTES = 1 << 18  # an A-ASSOCIATE-RQ of 128 contexts with 64 transfer syntaxes of 26 characters is smaller
_TICK_S = 0.25
_ACCEPT_AT_ONCE = 64
_PAUSE_S = 0.02
_HELP = {
    b"\x16": "the peer speaks TLS, which has a port of its own (listener_tls_port)",
    b"G": "the peer speaks HTTP, not DICOM",
    b"P": "the peer speaks HTTP, not DICOM",
}
Address = tuple[Any, ...]


@dataclass
class _Guest:
    sock: socket.socket
    address: Address
    since: float
    certificate: Certificate | None = None
    data: bytearray = field(default_factory=bytearray)

    @property
    def host(self) -> str:
        return str(self.address[0])

    def wanted(self) -> int:
        """How many bytes are missing, as far as the header announces them."""
        if len(self.data) < HEADER_BYTES:
            return HEADER_BYTES - len(self.data)
        return HEADER_BYTES + int.from_bytes(self.data[2:6], "big") - len(self.data)


class WaitingRoom:
    """Runs in one thread. ``admit`` takes over a socket and its request; ``turn_away`` gets host, reason and advice.

    A connection that is turned away gets an A-ABORT (PS3.8 9.2.3, actions AA-1 and AA-8).
    """

    def __init__(
        self,
        listening: socket.socket | None,
        admit: Callable[[socket.socket, Address, AssociationRequest, Certificate | None], None],
        turn_away: Callable[[str, str, str], None],
        *,
        deadline_s: float,
    ) -> None:
        """``listening``: None where guests come by `welcome` alone.

        deadline_s: from the connection to the last byte of its request (ARTIM, PS3.8 9.1.5)."""
        self._deadline_s = deadline_s
        self._listening, self._admit, self._turn_away = listening, admit, turn_away
        self._guests: dict[int, _Guest] = {}
        self._selector = selectors.DefaultSelector()
        self._bell = Bell()
        self._welcomed: queue.SimpleQueue[tuple[socket.socket, Address, Certificate | None]] = queue.SimpleQueue()
        self._selector.register(self._bell, selectors.EVENT_READ)
        if listening is not None:
            listening.setblocking(False)
            self._selector.register(listening, selectors.EVENT_READ)

    def welcome(self, sock: socket.socket, address: Address, certificate: Certificate | None) -> None:
        """Take in a connection that another thread accepted."""
        self._welcomed.put((sock, address, certificate))
        self._bell.ring()

    def turn(self, wait_s: float = _TICK_S) -> None:
        """Accept and read what has arrived; end connections past their deadline."""
        for key, _ in self._selector.select(min(wait_s, _TICK_S)):
            if key.fileobj is self._bell:
                self._bell.hear()
                self._take_in()
            elif key.fileobj is self._listening:
                self._accept()
            elif key.fd in self._guests:
                self._read(self._guests[key.fd])
        late = time.monotonic() - self._deadline_s
        for guest in [guest for guest in self._guests.values() if guest.since < late]:
            self._send_away(guest, f"no A-ASSOCIATE-RQ within {self._deadline_s:g} s", "a DICOM peer sends it at once")

    def close(self) -> None:
        """Close all waiting connections."""
        for guest in list(self._guests.values()):
            self._forget(guest)
            guest.sock.close()
        self._selector.close()
        while not self._welcomed.empty():
            self._welcomed.get()[0].close()
        self._bell.close()

    def _take_in(self) -> None:
        while not self._welcomed.empty():
            self._add(*self._welcomed.get())

    def _add(self, sock: socket.socket, address: Address, certificate: Certificate | None = None) -> None:
        sock.setblocking(False)
        guest = _Guest(sock, address, time.monotonic(), certificate)
        if len(self._guests) >= MOST_WAITING:
            self._make_room()
        self._guests[sock.fileno()] = guest
        self._selector.register(sock, selectors.EVENT_READ)

    def _accept(self) -> None:
        assert self._listening is not None
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                sock, address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError:  # the peer is gone again, or no file descriptor is free, which may take a while
                time.sleep(_PAUSE_S)
                return
            self._add(sock, address)

    def _make_room(self) -> None:
        """End the oldest connection of the address with the most; the dictionary keeps the order of arrival."""
        most = Counter(guest.host for guest in self._guests.values()).most_common(1)[0][0]
        oldest = next(guest for guest in self._guests.values() if guest.host == most)
        self._send_away(
            oldest, "too many connections without an A-ASSOCIATE-RQ", "look for a port scanner at this address"
        )

    def _read(self, guest: _Guest) -> None:
        try:
            received = guest.sock.recv(guest.wanted())
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:  # it hung up, as port checks do
            self._forget(guest)
            guest.sock.close()
            return
        guest.data += received
        if guest.data[0] != A_ASSOCIATE_RQ:
            self._send_away(
                guest, "no A-ASSOCIATE-RQ came first", _HELP.get(bytes(guest.data[:1]), "the peer does not speak DICOM")
            )
        elif guest.wanted() > _MOST_BYTES:
            self._send_away(guest, "the A-ASSOCIATE-RQ is too large", "propose fewer presentation contexts")
        elif len(guest.data) >= HEADER_BYTES and guest.wanted() <= 0:
            self._introduce(guest)

    def _introduce(self, guest: _Guest) -> None:
        try:
            request = AssociationRequest.parse(bytes(guest.data))
        except BadInput as error:
            self._send_away(guest, str(error), "the sender's DICOM library is at fault")
            return
        self._forget(guest)
        guest.sock.setblocking(True)
        self._admit(guest.sock, guest.address, request, guest.certificate)

    def _send_away(self, guest: _Guest, why: str, advice: str) -> None:
        self._forget(guest)
        with contextlib.suppress(OSError):
            guest.sock.send(abort(source=2, reason=0))
        guest.sock.close()
        self._turn_away(guest.host, why, advice)

    def _forget(self, guest: _Guest) -> None:
        self._selector.unregister(guest.sock)
        del self._guests[guest.sock.fileno()]


def abort(*, source: int, reason: int) -> bytes:
    """An A-ABORT PDU (PS3.8 9.3.8); source 2 is the service provider."""
    return bytes([7, 0, 0, 0, 0, 4, 0, 0, source, reason])


def reject(*, result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ PDU (PS3.8 9.3.4)."""
    return bytes([3, 0, 0, 0, 0, 4, 0, result, source, reason])
