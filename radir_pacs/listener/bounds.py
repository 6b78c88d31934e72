"""Bounds on what one peer may take: PDU size, message size, and time.

pynetdicom bounds none of them: a PDU may announce 4 GiB, and socket time-outs restart at each byte, so that a peer that
sends one byte per second holds its association for ever. The socket here has a deadline that only whole messages
move, by a fixed allowance and a minimum rate.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from dataclasses import dataclass
from typing import NoReturn

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from radir_pacs.listener.association_request import TITLES

MAX_PDU_BYTES = 131_072  # what we announce (PS3.8 D.1.1)
_MAX_PDU_READ_BYTES = 1 << 20  # what we read; an A-ASSOCIATE-RQ with 128 contexts is far smaller
_READ_BYTES = 1 << 18
LEAST_BYTES_PER_S = 32_768
LOOK_S = 0.001  # how long an answer may wait for the thread that waits for the peer
_MOST_REFUSED = 4  # an instance of up to this many times the allowed size is read to its end and answered by a status
_A_ASSOCIATE_AC = 2
_SLOW = "look at the network, or at the settings listener_idle_s and listener_association_s"


@dataclass(frozen=True, kw_only=True)
class PeerBounds:
    """idle_s: allowance to begin and end a message, besides its bytes at the minimum rate. association_s: in total."""

    idle_s: float
    association_s: float
    message_bytes: int


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Why an association ended, and what an administrator can do about it."""

    what: str
    advice: str = ""


class BoundedSocket(AssociationSocket):
    """An association's socket that stops reading at its bounds; pynetdicom then closes the connection (Evt17)."""

    def __init__(
        self, assoc: Association, sock: socket.socket, bounds: PeerBounds, *, first: bytes, titles: bytes
    ) -> None:
        """``first``: bytes to be read before those of the connection. ``titles``: AE titles for our A-ASSOCIATE-AC."""
        super().__init__(assoc, client_socket=sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bounds = bounds
        self._first, self._titles = first, titles
        self._last_moment = time.monotonic() + bounds.association_s
        self.ending: Ending | None = None
        self.message_done()

    def send(self, bytestream: bytes) -> None:
        """As in pynetdicom; an A-ASSOCIATE-AC repeats the AE titles exactly as the peer sent them (PS3.8 9.3.3)."""
        if bytestream[0] == _A_ASSOCIATE_AC:
            bytestream = bytestream[: TITLES.start] + self._titles + bytestream[TITLES.stop :]
        super().send(bytestream)

    @property
    def idle_s(self) -> float:
        """Seconds since the last message was answered; 0 while one is being received or processed."""
        return 0.0 if self._message_bytes else time.monotonic() - self._message_since

    def message_done(self) -> None:
        """A message was received and answered: the next one starts with a full allowance."""
        self._message_bytes = 0
        self._message_since = time.monotonic()

    @property
    def ready(self) -> bool:
        """As in pynetdicom, and also True once time is up, so that ``recv`` ends the association.

        Waits a moment for data, so that pynetdicom's thread need not sleep between two polls.
        """
        if self._first:
            return True
        self._await_data()
        return bool(super().ready) or time.monotonic() > self._deadline()

    def _await_data(self) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError, ValueError):  # closed in the meantime; pynetdicom notices next
                select.select([self.socket], [], [], LOOK_S)

    def _deadline(self) -> float:
        allowance = self._bounds.idle_s + self._message_bytes / LEAST_BYTES_PER_S
        return min(self._message_since + allowance, self._last_moment)

    def _end(self, what: str, advice: str) -> NoReturn:
        """Let pynetdicom see a broken connection, which it closes (PS3.8 9.2.3, action AA-4)."""
        self.ending = Ending(what=what, advice=advice)
        raise OSError(what)

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly ``nr_bytes``, or fewer when the peer hung up. Raises OSError beyond a bound."""
        if self._first:
            received, self._first = bytearray(self._first[:nr_bytes]), self._first[nr_bytes:]
            return received
        if nr_bytes > _MAX_PDU_READ_BYTES:
            self._end("the peer announced a PDU far over our maximum", f"the sender must keep to {MAX_PDU_BYTES} bytes")
        if self._message_bytes + nr_bytes > _MOST_REFUSED * self._bounds.message_bytes:
            self._end("the peer sent a message far over max_instance_mib", "raise it if such instances are wanted")
        if self.socket is None:
            raise OSError("the connection is closed")
        received = bytearray(nr_bytes)
        view, at = memoryview(received), 0
        while at < nr_bytes:
            remaining_s = self._deadline() - time.monotonic()
            if remaining_s <= 0:
                self._end("the peer sent too slowly, or nothing", _SLOW)
            self.socket.settimeout(remaining_s)
            try:
                count = self.socket.recv_into(view[at : at + _READ_BYTES])
            except TimeoutError:
                self._end("the peer sent too slowly, or nothing", _SLOW)
            if not count:
                break
            at += count
            self._message_bytes += count
        view.release()
        del received[at:]
        return received
