"""One more machine, the tests' own, that waits for each service while its link loses every packet.

Each wait must end by itself. What is measured is from the cut on.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from radir_pacs.catalogue import Catalogue, conninfo_of
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from radir_pacs.storage.s3 import Bucket, S3Address
from radir_workers.app import make_app
from tests.machines.installation import KEEP, Installation
from tests.machines.network import OUTSIDE

PROMISED_S = 20.0
_OF_BUCKET_S = 30.0  # a silence of 10 seconds, and the tries that follow for 20
SLACK_S = 40.0  # of a busy machine
_TAKE_LOCK = """
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute("SELECT pg_advisory_lock(1, 1)")
"""


class Waits:
    """``ended``: by name, seconds until the wait ended. ``check`` waits for them."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        self._failed: list[BaseException] = []
        self._began = time.monotonic()
        self._promised: dict[threading.Thread, float] = {}

    def add(
        self, name: str, wait: Callable[[], object], given_up: tuple[type[Exception], ...], *, promised_s: float
    ) -> None:
        """``given_up``: the errors by which it may end. None: it must succeed."""

        def run() -> None:
            try:
                with contextlib.suppress(*given_up):
                    wait()
            except BaseException as error:  # raised again by the thread that waits for this one
                error.add_note(name)
                self._failed.append(error)
            self.ended[name] = time.monotonic() - self._began

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._promised[thread] = promised_s
        thread.start()

    def check(self) -> None:
        for thread, promised_s in self._promised.items():
            thread.join(max(0.0, self._began + promised_s + SLACK_S - time.monotonic()))
        if self._failed:
            raise self._failed[0]
        late = {
            one.name: self.ended.get(one.name)
            for one, promised_s in self._promised.items()
            if self.ended.get(one.name, float("inf")) > promised_s + SLACK_S
        }
        assert not late, f"late: {late}, ended: {self.ended}"
        print("waits ended:", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.ended.items()), flush=True)


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
            of_database = functools.partial(waits.add, given_up=(psycopg.OperationalError,), promised_s=PROMISED_S)
            of_broker = functools.partial(waits.add, given_up=(*ears.connection_errors,), promised_s=PROMISED_S)
            of_bucket = functools.partial(waits.add, given_up=(StorageFailed,), promised_s=_OF_BUCKET_S)
            of_database("an answer of the database", lambda: asker.execute("SELECT pg_sleep(1)"))
            of_broker("a message of the broker", lambda: ears.drain_events(timeout=None))
            of_broker("an acknowledgement of the broker", lambda: said.queue_declare("waited-for"))
            of_bucket("the bucket, reading", lambda: b"".join(bucket.stream("waited-for")))
            of_bucket("the bucket, writing", lambda: bucket.put("written", [b"x"]))
            waits.add(
                "a lock of a machine that is gone",
                lambda: _take_lock(installation, conninfo),
                (),
                promised_s=PROMISED_S,
            )
            yield waits
            waits.check()


def _take_lock(installation: Installation, conninfo: str) -> None:
    """From another machine."""
    space = f"--net=/run/netns/{installation.network.namespace(KEEP)}"
    command = ["nsenter", space, sys.executable, "-c", _TAKE_LOCK, conninfo]
    subprocess.run(command, check=True, timeout=PROMISED_S + SLACK_S, cwd=Path(__file__).parents[2])
