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

    def __contains__(self, what: tuple[str, ...]) -> bool:
        with self._lock:
            return what in self._kept

    def add(self, what: tuple[str, ...]) -> None:
        """Only once it is recorded: what two record at once is there twice, and nothing is missing."""
        with self._lock:
            self._kept[what] = None
