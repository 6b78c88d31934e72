"""A short memory for what many open pages ask again and again, and what takes the database a while to count."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from cachetools import TTLCache

_MOST = 1000  # P6
T = TypeVar("T")


class Lately:
    """Answers no older than ``for_s`` seconds; safe for many threads, of which one at a time makes an answer."""

    def __init__(self, for_s: float) -> None:
        self._lock = threading.Lock()
        self._kept: TTLCache[str, Any] = TTLCache(_MOST, for_s)

    def get(self, key: str, make: Callable[[], T]) -> T:
        """What ``make`` returned for ``key``, now or lately. What is made under a key is always of one type."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            found: T = self._kept[key]
            return found

    def anew(self, key: str, make: Callable[[], T]) -> T:
        """What ``make`` returns now, for others to get."""
        made = make()
        with self._lock:
            self._kept[key] = made
        return made
