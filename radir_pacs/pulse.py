"""Each process says in the catalogue that it lives, so that ``radir status`` can tell."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import RadirError

log = logging.getLogger(__name__)

INTERVAL_S = 2.0


@contextmanager
def pulse(catalogue: Catalogue, name: str, *, detail: str = "") -> Iterator[None]:
    """Keep the row of process ``name`` fresh while the body runs; remove it after."""
    done = threading.Event()

    def beat() -> None:
        while True:
            try:
                catalogue.processes.say_alive(name, os.getpid(), "UP", detail)
            except RadirError as error:  # the database is away for a moment: say so, go on
                log.warning("pulse missed", extra={"error": error.code})
            if done.wait(INTERVAL_S):
                return

    thread = threading.Thread(target=beat, name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(INTERVAL_S)
        try:
            catalogue.processes.say_gone(name, os.getpid())
        except RadirError as error:  # its row falls silent, which says the same
            log.warning("farewell missed", extra={"error": error.code})
