"""What was recorded a short time ago, and need not be recorded again."""

from __future__ import annotations

import threading

from cachetools import TTLCache

_MOST = 20_000  # P6


class Remembered:
    """Remembers for ``for_s`` seconds; safe for many threads."""

    def __init__(self, for_s: float) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[tuple[str, ...], None] = TTLCache(_MOST, for_s)

    def is_new(self, *what: str) -> bool:
        with self._lock:
            if what in self._kept:
                return False
            self._kept[what] = None
            return True

    def forget(self, *what: str) -> None:
        """It could not be recorded after all."""
        with self._lock:
            self._kept.pop(what, None)
