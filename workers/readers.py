"""Studies are read several at a time, the most urgent first.

What nobody waits for is read at a low priority, by readers of its own: a thread or process that lowered its priority
cannot raise it again. It begins only while fewer than ``count`` of all readers read. Other work begins beside it, since
it would wait for long behind something that yields to everybody: for that while up to twice as many read.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import psutil

from radir_pacs.encode import EncoderInput
from radir_pacs.low_priority import after_others

from .reading_child import ReadingChild, ReadingSetup
from .study_reader import Content, Preparing

log = logging.getLogger(__name__)

_READER_BYTES = 2 << 30  # what a reader may take: the voxels of the largest CT and its decoder
_MOST_READERS = 32
IDLE_S = 60.0  # that a reader at a low priority keeps its processes without work: they hold memory
_WALL_TIMES = 10  # as long as others a decode that yields may take: its processor time is bounded all the same


class Reader(Protocol):
    """Reads one study at a time: a ``StudyReader`` in this process, or a ``ReadingChild``."""

    def read(
        self, content: Content, preparing: Preparing, *, alone: bool = False, last_attempt: bool = True
    ) -> list[EncoderInput]: ...

    def close(self) -> None: ...


Work = Callable[[Reader], None]  # raises nothing


class Readers:
    """``count`` readers, each in a process of its own; a single one is in this process, where it takes least memory.

    As many again do what yields, while no other work waits; in processes of their own always, since threads which a
    library starts for one of them, as obstore does, would serve the others at its priority.
    """

    def __init__(self, setup: ReadingSetup, count: int) -> None:
        self._count, self._busy = count, 0
        # Heaps, by whether they yield.
        self._waiting: dict[bool, list[tuple[tuple[int, int], int, Work]]] = {False: [], True: []}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        lows = [False] * count + [True] * count
        slower = replace(setup, limits=replace(setup.limits, wall_s=_WALL_TIMES * setup.limits.wall_s))
        self._readers: list[Reader] = [setup.reader()] if count == 1 else [ReadingChild(setup) for _ in range(count)]
        self._readers += [ReadingChild(slower) for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(reader, low), name="reader", daemon=True)
            for reader, low in zip(self._readers, lows, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return self._count

    def submit(self, place: tuple[int, int], work: Work, *, yields: bool) -> None:
        """Have a reader do this as soon as one is free and no work with a lower ``place`` waits.

        ``yields``: at a low priority, and after all that does not.
        """
        with self._changed:
            heapq.heappush(self._waiting[yields], (place, next(self._numbers), work))
            self._changed.notify_all()

    def close(self) -> None:
        """End the readers' processes, and forget what waits; what is being read fails."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while any(thread.is_alive() for thread in self._threads):
            for thread, reader in zip(self._threads, self._readers, strict=True):
                if isinstance(reader, ReadingChild):
                    reader.close()
                thread.join(0.1)
        for reader in self._readers:
            reader.close()

    def _serve(self, reader: Reader, low: bool) -> None:
        if low:
            after_others()
        idle_s: float | None = None  # nothing to end yet
        while not self._closed:
            work = self._next(low, idle_s)
            if work is None:
                reader.close()
                idle_s = None
                continue
            try:
                work(reader)
            except Exception:  # the edge of the thread
                log.exception("reading broke")
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()
            idle_s = IDLE_S if low else None

    def _next(self, low: bool, idle_s: float | None) -> Work | None:
        """None at the end, or when there was nothing to do for so long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._may_begin(low), idle_s) or self._closed:
                return None
            self._busy += 1
            return heapq.heappop(self._waiting[low])[-1]

    def _may_begin(self, low: bool) -> bool:
        if low and (self._waiting[False] or self._busy >= self._count):
            return False
        return bool(self._waiting[low])


def how_many(wanted: int, cores: int, workers: int) -> int:
    """Readers of one of ``workers`` on this machine: as set, else one per core and as many as memory holds."""
    if wanted:
        return wanted
    memory = psutil.virtual_memory().total // _READER_BYTES
    return int(max(1, min(cores, memory, _MOST_READERS) // workers))
