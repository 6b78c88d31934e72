"""kill -9 of worker or relay at any moment loses nothing and duplicates nothing, whatever the broker."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings, to_environment
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobState, StudyState
from tests.catalogue_material import MODEL, header, owners
from tests.dicom_files import noisy_radiograph, save
from tests.fault.brokers import broker

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0


@dataclass
class Stack:
    """Real processes with one catalogue. The worker's network waits at the gate."""

    settings: Settings
    catalogue: Catalogue
    blobs: BlobStore
    gate: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *module: str) -> subprocess.Popen[bytes]:
        environment = os.environ | to_environment(self.settings)
        with (self.gate.parent / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("tests.fault.gated_worker", str(self.gate))

    def relay(self) -> subprocess.Popen[bytes]:
        return self.start("radir_workers", "relay")

    def receive(self, study: int) -> None:
        """Store a chest radiograph of a new study."""
        ds = noisy_radiograph(header(study), seed=study)
        content = save(ds, self.gate.parent / "image.dcm").read_bytes()
        sha256, size_bytes = self.blobs.put(content)
        given = header(study, rows_px=96, columns_px=96, body_part="CHEST")
        self.catalogue.instances.add(given, content_sha256=sha256, size_bytes=size_bytes, source="TEST")

    def entered(self) -> list[str]:
        """What has reached the gate: study UID and process id."""
        return [path.name for path in self.gate.iterdir() if path.name != "open"]

    def open_gate(self) -> None:
        (self.gate / "open").touch()

    def wait_for_work(self, studies: int) -> None:
        """Wait until one more job is at the gate, or all work is done."""
        seen = len(self.entered())
        eventually(lambda: len(self.entered()) > seen or self.states() == {StudyState.INDEXED: studies}, self)

    def states(self) -> dict[StudyState, int]:
        return dict(self.catalogue.overview().studies)

    def log(self) -> str:
        return (self.gate.parent / "processes.log").read_text()[-3000:]


def eventually(what: Callable[[], bool], stack: Stack) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not what():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {LIMIT_S} s; {stack.catalogue.overview()}\n{stack.log()}")
        time.sleep(0.1)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module", params=["pgmq", "redis", "amqp"])
def broker_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with broker(request.param) as url:
        yield url


@pytest.fixture
def stack(broker_url: str, settings: Settings, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose catalogue is new; messages of an earlier test may still ring, which must do no harm."""
    gate = tmp_path / "gate"
    gate.mkdir()
    given = replace(settings, broker_url=broker_url, job_lease_s=1.0, job_max_attempts=50)
    with Catalogue.open(given) as catalogue:
        made = Stack(given, catalogue, BlobStore(given.home / "blobs"), gate)
        try:
            yield made
        finally:
            for process in made.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


only_pgmq = pytest.mark.parametrize("broker_url", ["pgmq"], indirect=True)  # the broker makes no difference


def assert_each_encoded_once(stack: Stack, studies: int) -> None:
    changes = stack.catalogue.encodings.changes(MODEL, "chest")
    whose = owners(stack.catalogue, changes.ids)
    assert sorted(owner.study.study_uid for owner in whose.values()) == sorted(f"2.25.{n}" for n in range(studies))
    assert changes.gone.tolist() == [], "nothing was encoded twice"


def test_a_worker_killed_in_mid_job_loses_nothing(stack: Stack) -> None:
    stack.relay()
    first = stack.worker()
    stack.receive(0)
    eventually(lambda: bool(stack.entered()), stack)
    kill(first)
    stack.worker()
    eventually(lambda: len(stack.entered()) == 2, stack)
    stack.open_gate()
    eventually(lambda: stack.states() == {StudyState.INDEXED: 1}, stack)
    assert_each_encoded_once(stack, 1)


@only_pgmq
def test_a_worker_that_slept_through_its_lease_is_fenced(stack: Stack) -> None:
    stack.relay()
    first = stack.worker()
    stack.receive(0)
    eventually(lambda: bool(stack.entered()), stack)
    os.kill(first.pid, signal.SIGSTOP)
    stack.worker()
    eventually(lambda: len(stack.entered()) == 2, stack)
    stack.open_gate()
    eventually(lambda: stack.states() == {StudyState.INDEXED: 1}, stack)
    os.kill(first.pid, signal.SIGCONT)
    eventually(lambda: "lease lost" in (stack.gate.parent / "processes.log").read_text(), stack)
    assert_each_encoded_once(stack, 1)


def test_random_kills_of_worker_and_relay_lose_and_double_nothing(stack: Stack) -> None:
    studies, chance = 12, random.Random(7)
    stack.open_gate()
    running = {"worker": stack.worker(), "relay": stack.relay()}
    for study in range(studies):
        stack.receive(study)
        if study % 3 == 2:
            victim = chance.choice(sorted(running))
            if chance.random() < 0.7:  # kill amid work; else at once, wherever the process is
                stack.wait_for_work(study + 1)
            kill(running[victim])
            running[victim] = stack.worker() if victim == "worker" else stack.relay()
    eventually(lambda: stack.states() == {StudyState.INDEXED: studies}, stack)
    assert_each_encoded_once(stack, studies)


def test_a_worker_killed_with_a_batch_in_hand_loses_none_of_it(stack: Stack) -> None:
    """One study is in the network, the others are read or waited for; all have leases of the dead worker."""
    for study in range(5):
        stack.receive(study)
    stack.catalogue.studies.complete_quiet(0)
    first = stack.worker()
    stack.relay()
    eventually(lambda: bool(stack.entered()), stack)
    eventually(lambda: running(stack) == 5, stack)
    kill(first)
    stack.open_gate()
    stack.worker()
    eventually(lambda: stack.states() == {StudyState.INDEXED: 5}, stack)
    assert_each_encoded_once(stack, 5)


def running(stack: Stack) -> int:
    return sum(found.count for found in stack.catalogue.overview().jobs if found.state is JobState.RUNNING)


def test_a_study_that_somebody_waits_for_is_the_first(stack: Stack) -> None:
    """Its message goes through a queue of its own, and whichever message comes first, it is the first to be claimed."""
    stack.open_gate()
    for study in range(4):
        stack.receive(study)
    stack.catalogue.studies.complete_quiet(0)
    assert stack.catalogue.jobs.hurry("2.25.3")
    stack.relay()
    stack.worker()
    eventually(lambda: stack.states() == {StudyState.INDEXED: 4}, stack)
    entered = sorted(stack.entered(), key=lambda name: (stack.gate / name).stat().st_mtime_ns)
    assert entered[0].startswith("2.25.3.")


@only_pgmq
def test_sigterm_ends_the_job_in_hand_first(stack: Stack) -> None:
    relay, worker = stack.relay(), stack.worker()
    stack.receive(0)
    eventually(lambda: bool(stack.entered()), stack)
    worker.terminate()
    relay.terminate()
    assert relay.wait(LIMIT_S) == 0
    assert worker.poll() is None
    stack.open_gate()
    assert worker.wait(LIMIT_S) == 0
    assert stack.states() == {StudyState.ENCODED: 1}
    assert len(stack.entered()) == 1
