"""Work for which nobody waits has a low priority, and so has what it starts; readers of it wait for the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.low_priority import NICE, after_others
from radir_pacs.types import Urgency
from radir_workers.readers import Reader, Readers
from radir_workers.reading_child import ReadingChild, ReadingSetup

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
def setup(tmp_path: Path) -> ReadingSetup:
    return ReadingSetup(blobs=tmp_path, limits=DecodeLimits(wall_s=3.0, cpu_s=2))


@pytest.fixture
def readers(setup: ReadingSetup) -> Iterator[Readers]:
    """One that reads at a time; it reads nothing."""
    with closing(Readers(setup, 1)) as made:
        yield made


def submitted(
    readers: Readers, urgency: Urgency, number: int, held: threading.Barrier | None = None, yields: bool | None = None
) -> Future[Any]:
    """A study to be read; it tells the niceness at which, and holds its reader between two meetings at ``held``."""
    done: Future[Any] = Future()

    def work(reader: Reader) -> None:
        done.set_running_or_notify_cancel()
        if held is not None:
            held.wait(20)
            held.wait(20)
        done.set_result((niceness(), next(_order)))

    readers.submit((urgency, number), work, yields=urgency >= Urgency.BESIDE if yields is None else yields)
    return done


_order = iter(range(10**6))


def test_a_study_for_a_model_that_does_not_answer_is_read_at_a_low_priority(readers: Readers) -> None:
    own = niceness()
    for urgency in Urgency:
        found, _ = submitted(readers, urgency, 1).result(60)
        assert found == (max(NICE, own) if urgency >= Urgency.BESIDE else own), urgency


def test_nobody_urgent_waits_for_what_is_read_at_a_low_priority(readers: Readers) -> None:
    held = threading.Barrier(2)
    first = submitted(readers, Urgency.BACKGROUND, 1, held)
    held.wait(20)
    low = [submitted(readers, urgency, 2) for urgency in (Urgency.BACKGROUND, Urgency.BESIDE)]
    passing = [submitted(readers, urgency, 2).result(10)[1] for urgency in Urgency if urgency < Urgency.BESIDE]
    assert not any(one.running() or one.done() for one in low), "as many read at once as are set"
    held.wait(20)
    background, beside = (one.result(60)[1] for one in low)
    assert max(passing) < first.result(60)[1] < beside < background


def test_what_yields_waits_until_a_reader_is_free_and_the_most_urgent_comes_first(readers: Readers) -> None:
    held = threading.Barrier(2)
    first = submitted(readers, Urgency.NEW, 1, held)
    held.wait(20)
    waiting = [(urgency, submitted(readers, urgency, 2)) for urgency in reversed(Urgency)]
    assert not any(one.running() or one.done() for _, one in waiting), "as many read at once as are set"
    held.wait(20)
    first.result(60)
    in_order = sorted((one.result(60)[1], urgency) for urgency, one in waiting)
    assert [urgency for _, urgency in in_order] == list(Urgency)


@pytest.mark.parametrize("count", [1, 2])
def test_a_decoder_that_yields_has_more_time_but_no_more_of_the_processor(
    setup: ReadingSetup, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    made: list[DecodeLimits] = []
    monkeypatch.setattr(ReadingChild, "__init__", lambda self, setup: made.append(setup.limits))
    monkeypatch.setattr(ReadingChild, "close", lambda self: None)
    Readers(setup, count).close()
    longer = DecodeLimits(wall_s=30.0, cpu_s=2)
    assert made == ([longer] if count == 1 else [setup.limits] * 2 + [longer] * 2)


def test_a_reader_goes_on_after_work_that_broke(readers: Readers) -> None:
    def broken(reader: Reader) -> None:
        raise ZeroDivisionError

    for yields in (False, True):
        readers.submit((0, 1), broken, yields=yields)
        assert submitted(readers, Urgency.BESIDE, 2, yields=yields).result(10)


def test_a_reader_that_yields_ends_its_process_when_there_is_nothing_to_do(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radir_workers.readers.IDLE_S", 0.01)
    ended: Future[int] = Future()

    def work(reader: Reader) -> None:
        assert isinstance(reader, ReadingChild)
        reader._started()
        assert reader._child is not None
        child, close = reader._child, reader.close

        def closing_it() -> None:
            close()
            if not ended.done():
                ended.set_result(child.returncode)

        monkeypatch.setattr(reader, "close", closing_it)

    readers.submit((Urgency.BACKGROUND, 1), work, yields=True)
    assert ended.result(60) == -signal.SIGKILL
    assert submitted(readers, Urgency.BACKGROUND, 2).result(60), "it is there again"
