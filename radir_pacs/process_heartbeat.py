"""Each process says in the catalogue that it is alive; ``radir status`` shows it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from radir_pacs.catalogue import Processes
from radir_pacs.errors import RadirError

log = logging.getLogger(__name__)

INTERVAL_S = 2.0


@contextmanager
def process_heartbeat(processes: Processes, name: str, *, detail: str = "") -> Iterator[None]:
    """Refresh the row of process ``name`` while the body runs; remove it afterwards."""
    done = threading.Event()

    def beat() -> None:
        while True:
            try:
                processes.say_alive(name, os.getpid(), "UP", detail)
            except RadirError as error:  # the database is unreachable for a moment: log it and continue
                log.warning("heartbeat missed", extra={"error": error.code})
            if done.wait(INTERVAL_S):
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(INTERVAL_S)
        try:
            processes.say_gone(name, os.getpid())
        except RadirError as error:  # the row goes stale, which says the same
            log.warning("farewell missed", extra={"error": error.code})
