"""Studies in a batch: each has a lease, an attempt, a transaction of its own; those that people wait for come first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.encode import EncoderInput, Preprocessing
from radir_pacs.errors import DicomRefused, ModelGone, Quarantined, StorageFailed
from radir_pacs.low_priority import NICE
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, ImageKind, JobKind, StudyState, Urgency
from radir_workers.readers import how_many
from radir_workers.reading_child import ReadingChild, ReadingSetup
from radir_workers.study_reader import StudyReader
from tests.catalogue_material import DIM, MODEL, header, register
from tests.dicom_files import noisy_radiograph, save
from tests.encoding_material import FakeShelf, by_hand, encoding_line
from tests.integration.test_claimed_studies import kill_worker


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.home / "blobs")


@pytest.fixture
def receive(catalogue: Catalogue, blobs: BlobStore, tmp_path: Path) -> Callable[[int], str]:
    """A stable study of one radiograph; returns its UID."""
    register(catalogue)

    def store(study: int) -> str:
        uids = header(study)
        path = save(noisy_radiograph(uids, seed=study), tmp_path / f"{study}.dcm")
        sha256, size_bytes = blobs.put(path.read_bytes())
        catalogue.instances.add(read_header(path), content_sha256=sha256, size_bytes=size_bytes, source="TEST")
        catalogue.studies.complete_quiet(0)
        return uids.study_uid

    return store


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is complete when nothing is being read any more, however long that takes."""
    monkeypatch.setattr("radir_workers.encode_studies.LINGER_S", 60.0)


def states(catalogue: Catalogue, uids: list[str]) -> list[StudyState]:
    return [catalogue.studies.get(uid).state for uid in uids]


def jobs(database_url: str) -> list[tuple[str, int]]:
    """State and attempts of the encode jobs, by id."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT state, attempt FROM job WHERE kind = 'encode' ORDER BY id").fetchall()
    return [(str(state), int(attempt)) for state, attempt in rows]


@pytest.mark.parametrize("readers", [1, 2])
def test_one_fails_alone_and_the_others_of_its_batch_are_saved(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str], patient: None, readers: int
) -> None:
    uids = [receive(n) for n in range(6)]

    def network(one: EncoderInput) -> Encoding:
        if one.study_uid == uids[2]:
            raise Quarantined("a flat image")
        if one.study_uid == uids[4]:
            raise ZeroDivisionError("Doe^John")
        return by_hand(one)

    shelf = FakeShelf(network)
    with encoding_line(catalogue, blobs.root, shelf, readers=readers) as line:
        line.run()
    assert [sorted(batch) for batch in shelf.batches] == [uids]
    fine = [uid for n, uid in enumerate(uids) if n not in (2, 4)]
    assert set(states(catalogue, fine)) == {StudyState.ENCODED}
    assert states(catalogue, [uids[2], uids[4]]) == [StudyState.QUARANTINED, StudyState.STABLE]
    assert catalogue.jobs.before(uids[4]) == 0, "it is tried again"


def test_a_lease_that_was_lost_in_the_batch_loses_no_other(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str], patient: None, database_url: str
) -> None:
    uids = [receive(n) for n in range(3)]

    def network(one: EncoderInput) -> Encoding:
        if one.study_uid == uids[1]:  # as after a sweep, and a claim by another
            with psycopg.connect(database_url) as connection:
                connection.execute("UPDATE job SET token = nextval('job_token') WHERE key = %s", [uids[1]])
        return by_hand(one)

    with encoding_line(catalogue, blobs.root, FakeShelf(network)) as line:
        line.run()
    assert states(catalogue, uids) == [StudyState.ENCODED, StudyState.STABLE, StudyState.ENCODED]
    assert jobs(database_url) == [("DONE", 1), ("RUNNING", 1), ("DONE", 1)], "it stays with its new holder"


def test_outages_of_the_catalogue_are_no_attempts(
    catalogue: Catalogue,
    blobs: BlobStore,
    receive: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
) -> None:
    """Each is longer than a lease, while a worker that lives holds the study."""
    monkeypatch.setattr("radir_workers.encode_studies.LOOK_S", 0.0)
    uid = receive(1)
    claim = catalogue.jobs.claim_studies
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        for _ in range(2):
            claims = iter([claim])
            with monkeypatch.context() as outage:
                outage.setattr(catalogue.jobs, "claim_studies", lambda *a, c=claims, **k: next(c, failing)(*a, **k))
                outage.setattr(catalogue.jobs, "release", failing)
                line.run()
            kill_worker(catalogue, database_url)
        line.run()
    assert states(catalogue, [uid]) == [StudyState.ENCODED]
    assert jobs(database_url) == [("DONE", 1)]


def failing(*_: object, **__: object) -> Any:
    raise StorageFailed("the database does not answer")


def test_stopping_gives_back_what_is_not_in_the_network(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str], database_url: str
) -> None:
    uids = [receive(n) for n in range(6)]
    with encoding_line(catalogue, blobs.root, shelf := FakeShelf(by_hand, batch_limit=1)) as line:

        def network(one: EncoderInput) -> Encoding:
            line.stop()
            return by_hand(one)

        shelf.network = network
        line.run()
    assert shelf.batches == [[uids[0]]]
    assert jobs(database_url) == [("DONE", 1), *[("PENDING", 0)] * 5]
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        line.run()
    assert set(states(catalogue, uids)) == {StudyState.ENCODED}


def test_a_batch_that_outlasts_the_drain_is_given_back(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str], database_url: str
) -> None:
    uids = [receive(n) for n in range(2)]
    with encoding_line(catalogue, blobs.root, shelf := FakeShelf(by_hand)) as line:

        def network(one: EncoderInput) -> Encoding:
            line.stop()
            line.give_back()
            assert jobs(database_url) == [("PENDING", 0)] * 2, "before the network has ended"
            return by_hand(one)

        shelf.network = network
        line.run()
    assert shelf.batches and jobs(database_url) == [("PENDING", 0)] * 2, "what came of it does not count"
    assert set(states(catalogue, uids)) == {StudyState.STABLE}


def test_the_leases_of_a_batch_outlive_a_slow_network(
    settings: Settings, blobs: BlobStore, receive: Callable[[int], str], patient: None
) -> None:
    with Catalogue.open(replace(settings, job_lease_s=1.0)) as catalogue:
        uids = [receive(n) for n in range(3)]
        swept = threading.Event()

        def network(one: EncoderInput) -> Encoding:
            for _ in range(8):  # in all nearly three times as long as the lease
                assert catalogue.jobs.sweep() == 0
                swept.wait(0.1)
            return by_hand(one)

        with encoding_line(catalogue, blobs.root, FakeShelf(network), lease_s=1.0) as line:
            line.run()
        assert set(states(catalogue, uids)) == {StudyState.ENCODED}


def test_urgent_ones_come_first_and_an_archive_last(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str]
) -> None:
    old = []
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        for n in range(4):
            old.append(receive(n))
            line.run()  # one by one: the archive goes by the order in which they were saved, and two save at a time
    catalogue.models.register("cxr-next-1", ImageKind.CXR, DIM, {}, by="test", reason="test", bundle_sha256="0" * 64)
    catalogue.models.promote("cxr-next-1", by="test", reason="test", least_coverage=0.0)
    assert catalogue.reencoding.feed() == 4
    new = [receive(n) for n in (7, 8, 9)]
    assert catalogue.jobs.hurry(old[3]) and catalogue.jobs.hurry(new[1])
    assert not catalogue.jobs.hurry(new[1]), "it is urgent already"
    assert catalogue.jobs.before(old[1]) == 5 and catalogue.jobs.before(new[1]) == 1
    shelf = FakeShelf(lambda one: replace(by_hand(one), model_id="cxr-next-1"), batch_limit=1)
    with encoding_line(catalogue, blobs.root, shelf) as line:
        line.run()
    assert [uid for batch in shelf.batches for uid in batch] == [old[3], new[1], new[0], new[2], old[2], old[1], old[0]]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no priority of their own")
def test_what_nobody_waits_for_is_encoded_at_a_low_priority(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radir_workers.encode_studies.BESIDE_S", 0.0)
    old = [receive(n) for n in range(3)]
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        line.run()
    catalogue.models.register("cxr-next-1", ImageKind.CXR, DIM, {}, by="test", reason="test", bundle_sha256="0" * 64)
    catalogue.models.set_shadow("cxr-next-1", by="test", reason="test")
    assert catalogue.reencoding.feed() == 3
    new = receive(7)
    found: dict[tuple[str, str], int] = {}

    def network(one: EncoderInput) -> Encoding:
        low = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        model_id = MODEL if (one.study_uid, MODEL) not in found and one.study_uid == new else "cxr-next-1"
        found[one.study_uid, model_id] = low
        return replace(by_hand(one), model_id=model_id)

    shelf = FakeShelf(network)
    with encoding_line(catalogue, blobs.root, shelf) as line:
        line.run()
    own = os.nice(0)
    assert found == {
        (new, MODEL): own,
        (new, "cxr-next-1"): max(NICE, own),
        **{(uid, "cxr-next-1"): max(NICE, own) for uid in old},
    }
    assert all(len(batch) == 1 for batch in shelf.batches[2:]), "short ones: somebody urgent may come"


def ask_for_next_model(catalogue: Catalogue) -> None:
    """A model in shadow, for which the one study here waits."""
    catalogue.models.register("cxr-next-1", ImageKind.CXR, DIM, {}, by="test", reason="test", bundle_sha256="0" * 64)
    catalogue.models.set_shadow("cxr-next-1", by="test", reason="test")
    assert catalogue.reencoding.feed() == 1


def test_a_new_study_waits_for_no_batch_of_a_model_that_does_not_answer(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str]
) -> None:
    old = receive(0)
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        line.run()
    ask_for_next_model(catalogue)
    new: list[str] = []
    done = threading.Event()
    waited: list[bool] = []

    def network(one: EncoderInput) -> Encoding:
        if one.study_uid == old:  # slowly, beside other work; meanwhile a study comes
            new.append(receive(7))
            waited.append(done.wait(30))
            return replace(by_hand(one), model_id="cxr-next-1")
        answers = not done.is_set()
        done.set()
        return by_hand(one) if answers else replace(by_hand(one), model_id="cxr-next-1")

    with encoding_line(catalogue, blobs.root, FakeShelf(network)) as line:
        line.run()
    assert waited == [True], "the new study is encoded while the batch beside it lasts"
    assert states(catalogue, new) == [StudyState.ENCODED]
    assert catalogue.models.coverage("cxr-next-1").share == 1


def test_a_batch_beside_others_is_given_back_by_a_worker_that_stops(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str]
) -> None:
    receive(0)
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        line.run()
    ask_for_next_model(catalogue)
    returned = threading.Event()
    shelf = FakeShelf(by_hand)
    with encoding_line(catalogue, blobs.root, shelf) as line:

        def network(one: EncoderInput) -> Encoding:
            line.stop()
            assert returned.wait(30)
            return replace(by_hand(one), model_id="cxr-next-1")

        shelf.network = network
        line.run()
        returned.set()
    assert shelf.batches and catalogue.models.coverage("cxr-next-1").share == 0, "what came of it does not count"
    with encoding_line(
        catalogue, blobs.root, FakeShelf(lambda one: replace(by_hand(one), model_id="cxr-next-1"))
    ) as line:
        line.run()
    assert catalogue.models.coverage("cxr-next-1").share == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no priority of their own")
def test_what_goes_alone_has_the_usual_priority_though_nobody_waits_for_it(
    catalogue: Catalogue,
    blobs: BlobStore,
    receive: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
) -> None:
    uid = receive(0)
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        line.run()
    ask_for_next_model(catalogue)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE job SET reason_code = 'DECODER_KILLED' WHERE kind = 'reencode'")
    found: dict[tuple[str, bool], int] = {}
    read = StudyReader.read

    def reading(self: StudyReader, *content: Any, **how: Any) -> list[EncoderInput]:
        found["read", how["alone"]] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return read(self, *content, **how)

    def network(one: EncoderInput) -> Encoding:
        found["network", one.study_uid == uid] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return replace(by_hand(one), model_id="cxr-next-1")

    monkeypatch.setattr(StudyReader, "read", reading)
    with encoding_line(catalogue, blobs.root, FakeShelf(network)) as line:
        line.run()
    assert found == {("read", True): os.nice(0), ("network", True): os.nice(0)}, "all wait for it"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no priority of their own")
def test_who_saves_keeps_the_usual_priority_whoever_had_the_first_result(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(0)
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        line.run()
    ask_for_next_model(catalogue)
    shelf = FakeShelf(by_hand)
    with encoding_line(catalogue, blobs.root, shelf) as line:
        served = shelf.preparing(None)

        def preparing(model_id: str | None) -> Mapping[ImageKind, tuple[str, Preprocessing]]:
            if model_id is not None:  # in the thread of a reader that yields
                raise ModelGone("it went")
            return served

        monkeypatch.setattr(shelf, "preparing", preparing)
        line.run()
        savers = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("saver")]
        assert savers and {os.getpriority(os.PRIO_PROCESS, saver or 0) for saver in savers} == {os.nice(0)}
    assert not shelf.batches, "it failed before the network"


def test_a_study_that_the_model_has_not_reached_is_encoded_when_somebody_asks(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str]
) -> None:
    old = [receive(n) for n in range(2)]
    with encoding_line(catalogue, blobs.root, FakeShelf(by_hand)) as line:
        line.run()
    register(catalogue, "cxr-next-1")
    assert catalogue.jobs.hurry(old[0]), "nothing of the archive was queued yet"
    assert not catalogue.jobs.hurry(old[0]), "it is urgent already"
    [job] = catalogue.jobs.claim_studies(9, "test")
    assert (job.kind, job.study_uid, job.model_id, job.urgency) == (
        JobKind.REENCODE,
        old[0],
        "cxr-next-1",
        Urgency.URGENT,
    )
    catalogue.jobs.fail(job, "broken", retry=False)
    assert not catalogue.jobs.hurry(old[0]), "what failed for good is not tried by every question"


def test_an_urgent_study_passes_a_full_window_and_goes_alone(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radir_workers.encode_studies.LOOK_S", 0.0)
    uids = [receive(n) for n in range(8)]

    def network(one: EncoderInput) -> Encoding:
        if one.study_uid == uids[0]:
            catalogue.jobs.hurry(uids[7])
        return by_hand(one)

    shelf = FakeShelf(network, batch_limit=2)
    with encoding_line(catalogue, blobs.root, shelf) as line:
        line.run()
    order = [uid for batch in shelf.batches for uid in batch]
    assert order.index(uids[7]) < order.index(uids[6]), "those ahead of it were in the window already"
    assert [uids[7]] in shelf.batches, "no others make it wait"


def child_of(setup: ReadingSetup) -> tuple[ReadingChild, psutil.Process]:
    before = set(psutil.Process().children())
    child = ReadingChild(setup)
    with pytest.raises(Exception):  # noqa: B017
        child.read([], {})
    [process] = set(psutil.Process().children()) - before
    return child, process


def test_a_reading_child_that_dies_is_replaced(
    catalogue: Catalogue, blobs: BlobStore, receive: Callable[[int], str]
) -> None:
    content = catalogue.instances.headers_of(receive(1))
    setup = ReadingSetup(blobs=blobs.root, limits=DecodeLimits())
    child, process = child_of(setup)
    try:
        here = setup.reader()
        [expected], [found] = here.read(content, FakeShelf.how), child.read(content, FakeShelf.how)
        here.close()
        np.testing.assert_array_equal(found.image, expected.image)
        assert replace(found, image=expected.image) == expected
        process.send_signal(signal.SIGSTOP)
        threading.Timer(0.3, process.kill).start()
        with pytest.raises(DicomRefused) as refusal:
            child.read(content, FakeShelf.how)
        assert refusal.value.reason_code is ReasonCode.DECODER_KILLED
        assert len(child.read(content, FakeShelf.how)) == 1
    finally:
        child.close()


def test_a_reading_child_ends_with_its_worker_and_needs_no_torch(tmp_path: Path) -> None:
    BlobStore(tmp_path / "blobs")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from radir_pacs.dicom.limits import DecodeLimits\n"
        "from radir_workers.reading_child import ReadingChild, ReadingSetup\n"
        f"child = ReadingChild(ReadingSetup(blobs=Path({str(tmp_path / 'blobs')!r}), "
        " limits=DecodeLimits()))\n"
        "try:\n    child.read([], {})\nexcept Exception:\n    pass\n"
        "print('torch' in sys.modules, child._child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stdin is not None
    with_torch, pid = worker.stdout.readline().split()
    assert with_torch == "False"
    child = psutil.Process(int(pid))
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()


def test_readers_are_as_many_as_cores_and_memory_allow() -> None:
    assert how_many(3, 64, 2) == 3, "as set"
    assert how_many(0, 1, 4) == 1
    assert how_many(0, 10_000, 1) <= 32
