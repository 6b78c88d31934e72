"""Where the pages of searches ended lately, so that the next page need not read all that is before it."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from cachetools import TTLCache

SEARCHES_MAX = 256
STARTS_MAX = 64  # of one search
KEPT_S = 600.0


@dataclass(frozen=True, kw_only=True, order=True)
class PageStart:
    """Match number ``row`` is the first one of this study, or of those behind it in the order of ``study_search``."""

    row: int
    newest_first: int
    study_uid: str


FIRST = PageStart(row=0, newest_first=0, study_uid="")


class PageStarts:
    """Threads may share it. ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._searches: TTLCache[Hashable, list[PageStart]] = TTLCache(SEARCHES_MAX, KEPT_S, timer=clock)

    def nearest(self, search: Hashable, row: int) -> PageStart:
        """The last start known that is not behind match number ``row``."""
        with self._lock:
            starts = self._searches.get(search, [])
            at = bisect_right(starts, row, key=lambda start: start.row)
            return starts[at - 1] if at else FIRST

    def remember(self, search: Hashable, row: int, studies: Sequence[tuple[int, str]], *, one_each: bool) -> None:
        """A page from match number ``row`` on had matches in these studies; ``one_each``: none has two.

        The last study becomes a start, unless the page lies in it whole: its matches may have begun before.
        """
        at = studies.index(studies[-1]) if studies else 0
        if not studies or (at == 0 and not one_each):
            return
        start = PageStart(row=row + at, newest_first=studies[-1][0], study_uid=studies[-1][1])
        with self._lock:
            kept = [other for other in self._searches.get(search, []) if other.row != start.row]
            self._searches[search] = sorted([*kept, start])[-STARTS_MAX:]  # its time begins anew
