"""Small answers that cost much to make and are asked for again: thumbnails of the cases that everybody is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cachetools import LRUCache

RECENT_BYTES = 32 << 20


class Recent:
    """The most recently asked for, up to so many bytes in all (P6); safe from many threads."""

    def __init__(self, most_bytes: int = RECENT_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[str, bytes] = LRUCache(most_bytes, getsizeof=len)

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` gave for ``key``, perhaps earlier. Two threads may make the same at one time."""
        with self._lock:
            found = self._kept.get(key)
        if found is not None:
            return found
        made = make()
        if len(made) <= self._kept.maxsize:
            with self._lock:
                self._kept.setdefault(key, made)
        return made
