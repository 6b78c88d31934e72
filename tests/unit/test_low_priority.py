"""Work for which nobody waits has a low priority, and so has what it starts; readers of it wait for the others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from radir_pacs.low_priority import NICE, after_others
from radir_pacs.types import Urgency
from radir_workers.readers import Reader, Readers
from radir_workers.reading_child import ReadingSetup

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no priority of their own")


def niceness() -> int:
    """Of the thread that asks."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_and_what_it_starts_come_after_others() -> None:
    found: dict[str, int] = {}

    def work() -> None:
        after_others()
        found["thread"] = niceness()
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.nice(0))"], capture_output=True, check=True, text=True
        )
        found["child"] = int(child.stdout)
        inner = threading.Thread(target=lambda: found.update(inner=niceness()))
        inner.start()
        inner.join()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(found.values()) == {max(NICE, niceness())} and len(found) == 3
    assert niceness() == os.nice(0), "this one stays as it was"


@pytest.fixture
def readers() -> Iterator[Readers]:
    """One that reads at a time; it reads nothing."""
    reader = SimpleNamespace(close=lambda: None)
    with closing(Readers(cast(ReadingSetup, SimpleNamespace(reader=lambda: reader)), 1)) as made:
        yield made


def submitted(readers: Readers, urgency: Urgency, number: int, held: threading.Event | None = None) -> Future[Any]:
    """A study to be read; it tells the niceness at which, and holds its reader until ``held`` is set."""
    done: Future[Any] = Future()

    def work(reader: Reader) -> None:
        done.set_running_or_notify_cancel()
        assert held is None or held.wait(60)
        done.set_result((niceness(), next(_order)))

    readers.submit((urgency, number), work)
    return done


_order = iter(range(10**6))


def test_a_study_for_a_model_that_does_not_answer_is_read_at_a_low_priority(readers: Readers) -> None:
    own = niceness()
    for urgency in Urgency:
        found, _ = submitted(readers, urgency, 1).result(60)
        assert found == (max(NICE, own) if urgency >= Urgency.BESIDE else own), urgency


def test_one_reads_at_a_time_and_the_archive_last(readers: Readers) -> None:
    held = threading.Event()
    first = submitted(readers, Urgency.BACKGROUND, 1, held)
    waiting = [(urgency, submitted(readers, urgency, 2)) for urgency in reversed(Urgency)]
    assert not any(one.running() or one.done() for _, one in waiting), "as many read at once as are set"
    held.set()
    first.result(60)
    in_order = sorted((one.result(60)[1], urgency) for urgency, one in waiting)
    assert [urgency for _, urgency in in_order] == list(Urgency)
