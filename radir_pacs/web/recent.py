"""Small answers that cost much to make and are asked for again: thumbnails of the cases that everybody is shown."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

RECENT_BYTES = 32 << 20


class Recent:
    """The most recently asked for, up to so many bytes in all (P6); safe from many threads."""

    def __init__(self, most_bytes: int = RECENT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` gave for ``key``, perhaps earlier. Two threads may make the same at one time."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = make()
        with self._lock:
            if key not in self._kept and len(made) <= self._most_bytes:
                self._kept[key] = made
                self._bytes += len(made)
                while self._bytes > self._most_bytes:
                    self._bytes -= len(self._kept.popitem(last=False)[1])
        return made
