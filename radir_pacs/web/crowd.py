"""Which HTTP connection gives way when there are too many: a pure choice, apart from waitress (P6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One open connection. ``since``: when it last did something useful. ``is_busy``: a request of it runs."""

    host: str
    since: float
    is_busy: bool
    has_header: bool  # the header of a request is here; its body arrives


Key = TypeVar("Key")


def who_gives_way(connections: Sequence[tuple[Key, Connection]]) -> Key | None:
    """Of the address that holds most, the connection that waits longest; None when each has a request that runs.

    Connections whose body is arriving come last: they are bounded by a least rate already.
    """
    waiting = [(key, one) for key, one in connections if not one.is_busy]
    if not waiting:
        return None
    held = Counter(one.host for _, one in connections)
    return min(waiting, key=lambda pair: (pair[1].has_header, -held[pair[1].host], pair[1].since))[0]
