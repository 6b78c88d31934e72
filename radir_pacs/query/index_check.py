"""The background check of open generations: slow, at low priority, for as long as the process serves."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from radir_pacs.errors import RadirError
from radir_pacs.low_priority import after_others
from radir_pacs.query.partitions import Partitions

log = logging.getLogger(__name__)

PAUSE_S = 60.0  # between two rounds
BYTES_PER_S = 32 << 20  # a twentieth of a core; 10 million vectors of 256 numbers take five minutes
_NICE = 15


class _Stopped(Exception):
    """The process is ending."""


class IndexCheck:
    """A context manager: the check runs in a thread until it is left."""

    def __init__(self, partitions: Partitions, pause_s: float = PAUSE_S) -> None:
        self._partitions, self._pause_s = partitions, pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index-check", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        after_others(_NICE)
        while not self._stop.wait(self._pause_s):
            try:
                self._partitions.check(self._rest)
            except _Stopped:
                return
            except RadirError as error:  # the catalogue is unreachable; the next round tries again
                log.warning("index check missed", extra={"error": error.code})
            except Exception as error:  # the edge of the thread
                log.exception("index check failed", extra={"error": type(error).__name__})

    def _rest(self, size_bytes: int) -> None:
        if self._stop.wait(size_bytes / BYTES_PER_S):
            raise _Stopped
