"""Studies are read several at a time, the most urgent first."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from typing import Protocol

import psutil

from radir_pacs.encode import EncoderInput

from .reading_child import ReadingChild, ReadingSetup
from .study_reader import Content, Preparing

_READER_BYTES = 2 << 30  # what a reader may take: the voxels of the largest CT and its decoder
_MOST_READERS = 32


class Reader(Protocol):
    """Reads one study at a time: a ``StudyReader`` in this process, or a ``ReadingChild``."""

    def read(
        self, content: Content, preparing: Preparing, *, alone: bool = False, last_attempt: bool = True
    ) -> list[EncoderInput]: ...

    def close(self) -> None: ...


Work = Callable[[Reader], None]  # raises nothing


class Readers:
    """``count`` readers, each in a process of its own; a single one is in this process, where it takes least memory."""

    def __init__(self, setup: ReadingSetup, count: int) -> None:
        self._readers: list[Reader] = [setup.reader()] if count == 1 else [ReadingChild(setup) for _ in range(count)]
        self._queue: queue.PriorityQueue[tuple[tuple[int, int], int, Work]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(reader,), name="reader", daemon=True) for reader in self._readers
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._readers)

    def submit(self, place: tuple[int, int], work: Work) -> None:
        """Have a reader do this as soon as one is free and no work with a lower ``place`` waits."""
        self._queue.put((place, next(self._numbers), work))

    def close(self) -> None:
        """End the readers' processes, and forget what waits; what is being read fails."""
        self._closed.set()
        for _ in self._threads:
            self._queue.put(((-1, -1), next(self._numbers), _nothing))
        while any(thread.is_alive() for thread in self._threads):
            for thread, reader in zip(self._threads, self._readers, strict=True):
                if isinstance(reader, ReadingChild):
                    reader.close()
                thread.join(0.1)
        for reader in self._readers:
            reader.close()

    def _serve(self, reader: Reader) -> None:
        while not self._closed.is_set():
            _, _, work = self._queue.get()
            if not self._closed.is_set():
                work(reader)


def _nothing(reader: Reader) -> None:
    """What wakes a thread that is to end."""


def how_many(wanted: int, cores: int, workers: int) -> int:
    """Readers of one of ``workers`` on this machine: as set, else one per core and as many as memory holds."""
    if wanted:
        return wanted
    memory = psutil.virtual_memory().total // _READER_BYTES
    return int(max(1, min(cores, memory, _MOST_READERS) // workers))
