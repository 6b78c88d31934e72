"""Keeps the leases of the jobs that a process works on."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import RadirError
from radir_pacs.types import Job

log = logging.getLogger(__name__)

EXIT_HUNG = 70  # EX_SOFTWARE


class Leases:
    """Prolongs the leases of the jobs it holds, in a thread: a long pass of the network takes the main one.

    A job that is held longer than ``longest_s`` hangs, and its thread cannot be ended from outside: ``give_up`` ends
    the process. Its supervisor starts another, the lease runs out, and the attempt counts, so nothing waits for ever
    (P3). A context manager.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        lease_s: float,
        longest_s: float = 3600.0,
        give_up: Callable[[int], object] = os._exit,
    ) -> None:
        self._catalogue = catalogue
        self._every_s = min(lease_s / 3, longest_s)
        self._longest_s = longest_s
        self._give_up = give_up
        self._held: dict[int, tuple[Job, float]] = {}  # by id, with the moment at which it counts as hung
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def hold(self, job: Job) -> None:
        """From now on the lease of this job, which was just claimed, does not run out."""
        with self._lock:
            self._held[job.id] = job, time.monotonic() + self._longest_s

    def drop(self, job: Job) -> None:
        """It ended, or is nobody's any more."""
        with self._lock:
            self._held.pop(job.id, None)

    def _beat(self) -> None:
        while not self._done.wait(self._every_s):
            with self._lock:
                held = list(self._held.values())
            hung = [job for job, last_moment in held if time.monotonic() > last_moment]
            if hung:
                log.critical("job hangs, the process ends", extra={"job": hung[0].id, "kind": hung[0].kind})
                self._give_up(EXIT_HUNG)
                return
            try:
                if held:
                    self._catalogue.jobs.heartbeat_all([job for job, _ in held])
            except RadirError as error:
                log.warning("heartbeat missed", extra={"error": error.code})
