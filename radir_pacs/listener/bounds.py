"""Bounds on what one peer may take: PDU size, message size, and time.

pynetdicom bounds none of them: a PDU may announce 4 GiB, and socket time-outs restart at each byte, so that a peer that
sends one byte per second holds its association for ever. The socket here has a deadline that only whole messages
move, by a fixed allowance and a minimum rate.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import NoReturn

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from radir_pacs.listener.association_request import TITLES
from radir_pacs.listener.bell import Bell

MAX_PDU_BYTES = 131_072  # what we announce (PS3.8 D.1.1)
_MAX_PDU_READ_BYTES = 1 << 20  # what we read; an A-ASSOCIATE-RQ with 128 contexts is far smaller
LEAST_BYTES_PER_S = 32_768
LOOK_S = 0.25  # between two looks at the clock; what other threads want is told by the bell
ENDING_LOOK_S = 0.001  # once a connection is to be closed, for what the peer still sends
_CLOCK_S = 0.25  # how often a peer that is being read from is measured against its deadline
_TIMEVAL = struct.Struct("@ll")
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
        self, assoc: Association, sock: socket.socket, bounds: PeerBounds, bell: Bell, *, first: bytes, titles: bytes
    ) -> None:
        """``first``: bytes to be read before those of the connection. ``titles``: AE titles for our A-ASSOCIATE-AC.

        ``bell``: ends a wait for the peer.
        """
        super().__init__(assoc, client_socket=sock)
        if sock.family != socket.AF_UNIX:  # the inner side of a TLS connection
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(None)  # the kernel keeps the time: one call then reads a whole PDU
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(bounds.idle_s))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(_CLOCK_S))
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._bell = bell
        self._poll.register(bell, select.POLLIN)
        self._bounds = bounds
        self._first, self._titles = first, titles
        self._buffer = bytearray(MAX_PDU_BYTES)
        self._last_moment = time.monotonic() + bounds.association_s
        self.ending: Ending | None = None
        self.look_s = LOOK_S
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

        Waits for data, or for the bell, so that pynetdicom's thread need not sleep between two polls.
        """
        if self._first:
            return True
        if self.socket is None or not self._is_connected:
            return False
        bell, heard = self._bell.fileno(), [handle for handle, _ in self._poll.poll(self.look_s * 1000)]
        if bell in heard:
            self._bell.hear()
            heard.remove(bell)
        return bool(heard) or time.monotonic() > self._deadline()

    def _deadline(self) -> float:
        allowance = self._bounds.idle_s + self._message_bytes / LEAST_BYTES_PER_S
        return min(self._message_since + allowance, self._last_moment)

    def _end(self, what: str, advice: str) -> NoReturn:
        """Let pynetdicom see a broken connection, which it closes (PS3.8 9.2.3, action AA-4)."""
        self.ending = Ending(what=what, advice=advice)
        raise OSError(what)

    def peek(self, nr_bytes: int) -> bytes:
        """The next bytes, which stay to be read; fewer when the peer hung up. Raises OSError beyond a bound."""
        if not self._first:
            self._first = bytes(self.recv(nr_bytes))
        return self._first[:nr_bytes]

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly ``nr_bytes``, or fewer when the peer hung up. Raises OSError beyond a bound."""
        if self._first:
            received, self._first = bytearray(self._first[:nr_bytes]), self._first[nr_bytes:]
            return received
        self._check(nr_bytes)
        received = bytearray(nr_bytes)
        with memoryview(received) as view:
            at = self._fill(view)
        del received[at:]
        return received

    def recv_lent(self, nr_bytes: int) -> memoryview:
        """As `recv`, in a buffer that the next call uses again."""
        self._check(nr_bytes)
        if nr_bytes > len(self._buffer):
            self._buffer = bytearray(nr_bytes)
        view = memoryview(self._buffer)[:nr_bytes]
        return view[: self._fill(view)]

    def _check(self, nr_bytes: int) -> None:
        if nr_bytes > _MAX_PDU_READ_BYTES:
            self._end("the peer announced a PDU far over our maximum", f"the sender must keep to {MAX_PDU_BYTES} bytes")
        if self._message_bytes + nr_bytes > _MOST_REFUSED * self._bounds.message_bytes:
            self._end("the peer sent a message far over max_instance_mib", "raise it if such instances are wanted")

    def _fill(self, view: memoryview) -> int:
        """Receive until the view is full or the peer hangs up; returns how many bytes came."""
        if self.socket is None:
            raise OSError("the connection is closed")
        at = 0
        while at < len(view):
            if time.monotonic() > self._deadline():
                self._end("the peer sent too slowly, or nothing", _SLOW)
            try:
                count = self.socket.recv_into(view[at:], 0, socket.MSG_WAITALL)
            except BlockingIOError:  # nothing came for a while
                continue
            if not count:
                break
            at += count
            self._message_bytes += count
        return at


def _timeval(seconds: float) -> bytes:
    """For SO_RCVTIMEO and SO_SNDTIMEO, where nothing means for ever."""
    return _TIMEVAL.pack(int(seconds), max(int(seconds % 1 * 1_000_000), 1))
