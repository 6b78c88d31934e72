"""What is in hand when a process is told to stop: a job that takes too long, a message that is being answered."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from radir_pacs.hl7.server import MllpServer
from radir_pacs.types import Job, JobKind, JobState
from radir_workers.app import leave
from radir_workers.runner import Runner
from tests.conftest import free_port
from tests.hl7_material import Peer, code, oru


def test_a_job_that_outlasts_the_drain_is_for_another_worker(catalogue: Catalogue) -> None:
    job_id = catalogue.jobs.enqueue(JobKind.INDEX, "model/chest")
    begun, released = threading.Event(), threading.Event()

    def merge(job: Job) -> None:
        begun.set()
        assert released.wait(30)
        catalogue.jobs.finish(job)  # too late: its token is void

    runner = Runner(catalogue, {JobKind.INDEX: merge}, worker="one", lease_s=60)
    working = threading.Thread(target=runner.run, args=(job_id,))
    working.start()
    assert begun.wait(30)
    codes: list[int] = []
    leave(runner.give_back, codes.append)
    job = catalogue.jobs.get(job_id)
    assert job is not None and (job.state, job.attempt, codes) == (JobState.PENDING, 0, [0]), "it never counted"
    released.set()
    working.join(30)
    job = catalogue.jobs.get(job_id)
    assert job is not None and job.state is JobState.PENDING


def test_without_the_database_the_process_ends_all_the_same() -> None:
    def away() -> None:
        raise StorageFailed("away")

    codes: list[int] = []
    leave(away, codes.append)
    assert codes == [0]


def test_a_message_in_hand_is_answered_and_a_connection_at_rest_ends(
    settings: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    settings = replace(settings, hl7_port=free_port())
    entered, released = threading.Event(), threading.Event()
    take = catalogue.messages.take

    def slowly(*arguments: object) -> object:
        entered.set()
        assert released.wait(30)
        return take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(catalogue.messages, "take", slowly)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = MllpServer(settings, catalogue)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
    with Peer(settings.hl7_port) as busy, Peer(settings.hl7_port) as rests:
        answers: list[bytes] = []
        asking = threading.Thread(target=lambda: answers.append(busy.ask(oru("Clear."))))
        asking.start()
        assert entered.wait(30)
        draining = asyncio.run_coroutine_threadsafe(server.drain(30), loop)
        with contextlib.suppress(ConnectionError):
            assert rests.sock.recv(1) == b""
        with pytest.raises(ConnectionError):
            Peer(settings.hl7_port).__enter__()
        released.set()
        asking.join(30)
        draining.result(30)
        assert [code(answer) for answer in answers] == ["AA"]
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
