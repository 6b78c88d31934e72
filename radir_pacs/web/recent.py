"""A cache for small answers that are costly to make and often repeated: thumbnails of cases that everybody is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cachetools import LRUCache

RECENT_BYTES = 32 << 20


class Recent:
    """The most recently used answers, up to a total number of bytes (P6); thread-safe."""

    def __init__(self, most_bytes: int = RECENT_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[str, bytes] = LRUCache(most_bytes, getsizeof=len)

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` returned for ``key``, now or earlier. Two threads may make the same answer at once."""
        with self._lock:
            found = self._kept.get(key)
        if found is not None:
            return found
        made = make()
        if len(made) <= self._kept.maxsize:
            with self._lock:
                self._kept.setdefault(key, made)
        return made
