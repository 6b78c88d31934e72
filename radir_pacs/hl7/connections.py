"""The open connections of the MLLP listener, and which gives way where they are at their limit.

The one that rested longest does, first of the address that holds most; an address may hold three quarters of them. So
a crowd from one machine, or from several, never keeps out a sender that holds few.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from radir_pacs.errors import SettingError

from .framing import Frames

BACKLOG = 128  # what the system keeps of those that knock; asyncio takes as many in one turn of its loop
_OTHER_HANDLES = 512 + 4 * BACKLOG  # database, libraries, and those that are taken before the first is refused


@dataclass(eq=False)
class Peer:
    """A connection. ``resting_since``: None while a message arrives or is answered. ``transport``: below any TLS."""

    host: str
    writer: asyncio.StreamWriter
    transport: asyncio.WriteTransport
    frames: Frames
    resting_since: float | None = field(default_factory=time.monotonic)
    arriving_since: float | None = None
    counted_bytes: int = 0
    handshake: asyncio.Task[None] | None = None  # while it lasts

    def end(self) -> None:
        """End the connection at once; asyncio loses its transport where that happens under a handshake."""
        if self.handshake is not None:
            self.handshake.cancel()
        else:
            self.transport.abort()


class Connections:
    """At most ``most`` at once."""

    def __init__(self, most: int) -> None:
        self._most, self._share = most, most - most // 4
        self._peers: set[Peer] = set()
        self._held: Counter[str] = Counter()
        self.arriving_bytes = 0  # of all messages that arrive

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers))

    def admit(self, peer: Peer) -> bool:
        """Whether there is room; another one may be ended for it."""
        if len(self._peers) >= self._most or self._held[peer.host] >= self._share:
            longest = self._gives_way(peer.host)
            if longest is None:
                return False
            self.remove(longest)
            longest.end()
        self._peers.add(peer)
        self._held[peer.host] += 1
        return True

    def _gives_way(self, host: str) -> Peer | None:
        resting = [one for one in self._peers if one.resting_since is not None]
        if self._held[host] >= self._share:
            resting = [one for one in resting if one.host == host]
        return min(resting, key=lambda one: (-self._held[one.host], one.resting_since or 0.0), default=None)

    def remove(self, peer: Peer) -> None:
        """It ended; what was removed before is left alone."""
        if peer not in self._peers:
            return
        self._peers.remove(peer)
        self._held[peer.host] -= 1
        if not self._held[peer.host]:
            del self._held[peer.host]
        self.arriving_bytes -= peer.counted_bytes

    def count_bytes(self, peer: Peer) -> None:
        """Note how much of a message arrived."""
        if peer in self._peers:
            self.arriving_bytes += peer.frames.nbytes - peer.counted_bytes
            peer.counted_bytes = peer.frames.nbytes


def make_room(most: int) -> None:
    """Let the process hold ``most`` connections. Raises SettingError where the system allows fewer file handles."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + _OTHER_HANDLES
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise SettingError(f"hl7_max_connections: {most} need {wanted} file handles, the system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
