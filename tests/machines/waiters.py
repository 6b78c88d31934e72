"""One more machine, the tests' own, that waits for each service while its link loses every packet.

Each wait must end by itself. What is measured is from the cut on.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from radir_pacs.catalogue import Catalogue, conninfo_of
from radir_pacs.config import Settings
from radir_pacs.storage.s3 import Bucket, S3Address
from radir_workers.app import make_app
from tests.machines.installation import KEEP, Installation
from tests.machines.network import OUTSIDE

LONGEST_S = 40.0
_TAKE_LOCK = """
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute("SELECT pg_advisory_lock(1, 1)")
"""


class Waits:
    """``ended``: by name, seconds until the wait ended. ``all_ended`` waits for them."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        self._began = time.monotonic()
        self._threads: list[threading.Thread] = []

    def add(self, name: str, wait: Callable[[], object]) -> None:
        def run() -> None:
            with contextlib.suppress(Exception):  # how it ends is the business of other tests
                wait()
            self.ended[name] = time.monotonic() - self._began

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def all_ended(self) -> bool:
        deadline = self._began + LONGEST_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


@contextlib.contextmanager
def waiting(installation: Installation, settings: Settings, catalogue: Catalogue) -> Iterator[Waits]:
    """In the body the link from here to the services is cut, and somebody here waits for each of them."""
    conninfo = conninfo_of(settings)
    bucket = Bucket(S3Address.of(settings.blob_store, settings))
    bucket.put("waited-for", [b"x" * (4 << 20)])
    app = make_app(settings, catalogue)
    with (
        contextlib.closing(psycopg.connect(conninfo)) as holder,
        contextlib.closing(psycopg.connect(conninfo)) as asker,
        app.connection_for_read() as ears,
        app.connection_for_write() as mouth,
    ):
        holder.execute("SELECT pg_advisory_xact_lock(1, 1)")
        asker.execute("SELECT 1")
        for broker in (ears, mouth):
            broker.ensure_connection(max_retries=3)
        said = mouth.default_channel
        with installation.network.cut(OUTSIDE, KEEP):
            waits = Waits()
            waits.add("an answer of the database", lambda: asker.execute("SELECT pg_sleep(1)"))
            waits.add("a message of the broker", lambda: ears.drain_events(timeout=None))
            waits.add("an acknowledgement of the broker", lambda: said.queue_declare("waited-for"))
            waits.add("the bucket, reading", lambda: b"".join(bucket.stream("waited-for")))
            waits.add("the bucket, writing", lambda: bucket.put("written", [b"x"]))
            waits.add("a lock of a machine that is gone", lambda: _take_lock(installation, conninfo))
            yield waits
            assert waits.all_ended(), f"ended: {waits.ended}"


def _take_lock(installation: Installation, conninfo: str) -> None:
    """From another machine."""
    space = f"--net=/run/netns/{installation.network.namespace(KEEP)}"
    command = ["nsenter", space, sys.executable, "-c", _TAKE_LOCK, conninfo]
    subprocess.run(command, check=True, timeout=LONGEST_S, cwd=Path(__file__).parents[2])
