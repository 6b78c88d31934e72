"""Which HTTP connection is closed when there are too many; a pure function, separate from waitress (P6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One open connection. ``since``: when it last finished a request, or opened. ``is_busy``: a request is running."""

    host: str
    since: float
    is_busy: bool
    has_header: bool  # the header of a request has arrived, its body not yet


Key = TypeVar("Key")


def who_gives_way(connections: Sequence[tuple[Key, Connection]]) -> Key | None:
    """The connection that has waited longest, among those of the address with the most; None if all run requests.

    Connections that are receiving a body come last: a minimum rate bounds them already.
    """
    waiting = [(key, one) for key, one in connections if not one.is_busy]
    if not waiting:
        return None
    held = Counter(one.host for _, one in connections)
    return min(waiting, key=lambda pair: (pair[1].has_header, -held[pair[1].host], pair[1].since))[0]
