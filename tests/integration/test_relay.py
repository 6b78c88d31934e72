"""The relay turns time into work, and survives whatever a round meets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError, StorageFailed
from radir_pacs.index import partition_folder
from radir_pacs.index.writer import GRACE_S
from radir_pacs.models import Upkeep
from radir_pacs.reports import PARSER
from radir_pacs.storage.blobs import YOUNG_S, BlobStore
from radir_pacs.types import JobKind, StudyState
from radir_workers.app import INDEX_QUEUE, QUEUE, TRANSFER_QUEUE, make_app
from radir_workers.index_partition import FORGET_S, IndexPartition
from radir_workers.mine_report import MineReport
from radir_workers.relay import KEEP_DONE_S, PRUNE_S, SURVEY_S, SWEEP_S, Relay
from tests.catalogue_material import MODEL, add, claimed, encoded, encoding, header, register


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def rung() -> list[int]:
    return []


def into(rung: list[int]) -> Callable[[int, str], None]:
    """An announcer that records the job's id."""
    return lambda job_id, _: rung.append(job_id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock) -> Relay:
    return Relay(catalogue, BlobStore(settings.home / "blobs"), settings, into(rung), clock)


def relay_at(
    now: Callable[[], float], catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock
) -> Relay:
    """One whose time of day is ``now``."""
    return Relay(catalogue, BlobStore(settings.home / "blobs"), settings, into(rung), clock, now)


def eventually(what, limit_s: float = 30.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def test_who_hears_of_a_job_finds_its_row_at_rest(
    catalogue: Catalogue, settings: Settings, clock: Clock, database_url: str
) -> None:
    """Workers pass over locked rows: one that the relay still wrote to would wait for the next announcement."""
    versions = []

    def version() -> object:
        with psycopg.connect(database_url) as connection:
            return connection.execute("SELECT ctid, xmin FROM job").fetchone()

    relay = Relay(
        catalogue, BlobStore(settings.home / "blobs"), settings, lambda job, queue: versions.append(version()), clock
    )
    catalogue.jobs.enqueue(JobKind.REPORT, "2.25.1")
    relay.round()
    assert len(versions) == 1
    assert version() == versions[0], "nothing was written after the message"


def test_a_job_whose_message_the_broker_did_not_take_is_announced_in_the_next_round(
    catalogue: Catalogue, settings: Settings, clock: Clock
) -> None:
    tried = list[int]()

    def ring(job_id: int, queue: str) -> None:
        tried.append(job_id)
        if len(tried) == 1:
            raise ConnectionError

    relay = Relay(catalogue, BlobStore(settings.home / "blobs"), settings, ring, clock)
    first, second = (catalogue.jobs.enqueue(JobKind.REPORT, f"2.25.{number}") for number in (1, 2))
    relay.round()
    assert tried == [first]
    relay.round()
    assert sorted(tried) == [first, first, second]


def test_a_quiet_study_is_completed_and_rung(catalogue: Catalogue, relay: Relay, rung: list[int]) -> None:
    add(catalogue, header())

    def round_rings() -> bool:
        relay.round()
        return bool(rung)

    eventually(round_rings)
    relay.round()
    assert len(rung) == 1
    assert catalogue.studies.get("2.25.1").state is StudyState.STABLE


def test_one_encoded_study_alone_is_indexed_at_once(catalogue: Catalogue, relay: Relay) -> None:
    register(catalogue)
    encoded(catalogue)
    relay.round()
    assert catalogue.studies.get("2.25.1").state is StudyState.INDEXED


def test_a_broker_that_is_away_loses_no_bell(
    catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock
) -> None:
    ids = [catalogue.jobs.enqueue(JobKind.INDEX, f"m/r{n}") for n in range(3)]
    calls = []

    def ring(job_id: int, queue: str) -> None:
        calls.append(job_id)
        if len(calls) == 2:
            raise ConnectionError
        rung.append(job_id)

    stop = threading.Event()
    thread = threading.Thread(
        target=Relay(catalogue, BlobStore(settings.home / "blobs"), settings, ring, clock).run, args=(stop,)
    )
    thread.start()
    eventually(lambda: len(rung) == 3)
    stop.set()
    thread.join()
    assert rung == ids
    assert calls == [ids[0], ids[1], ids[1], ids[2]], "what the broker took is not rung twice"


def test_a_step_that_breaks_holds_nothing_else_back(
    catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of ours, in every step but the last ones: what comes behind them is done all the same."""

    def break_down(*_: object, **__: object) -> None:
        raise ValueError

    for part, name in (
        ("reencoding", "feed"),
        ("withheld", "look_again"),
        ("jobs", "prune"),
        ("report_versions", "prune"),
        ("audit", "seal"),
    ):
        monkeypatch.setattr(type(getattr(catalogue, part)), name, break_down)
    swept: list[int] = []

    def sweep(blobs: BlobStore, known: object, part: int) -> int:
        swept.append(part)
        return 0

    blobs = BlobStore(settings.home / "blobs")
    monkeypatch.setattr(BlobStore, "sweep", sweep)
    job_id = catalogue.jobs.enqueue(JobKind.INDEX, "m/r")
    Relay(catalogue, blobs, settings, into(rung), clock).round()
    assert (rung, swept) == ([job_id], [0])


def test_a_heavy_tail_asks_for_a_merge(
    catalogue: Catalogue, relay: Relay, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(catalogue)
    relay.round()
    encoded(catalogue)
    monkeypatch.setattr("radir_pacs.index.writer.MIN_CHANGES", 1)
    relay.round()
    assert not [count for count in catalogue.overview().jobs if count.kind is JobKind.INDEX], "not looked at yet"
    clock.now_s += SURVEY_S
    relay.round()
    [merges] = [count for count in catalogue.overview().jobs if count.kind is JobKind.INDEX]
    assert merges.count == 3  # one per region


def test_a_bucket_that_stays_away_holds_nothing_back(
    catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, swept = BlobStore(settings.home / "blobs"), []

    def sweep(known: object, part: int | None = None) -> int:
        swept.append(part)
        raise StorageFailed("the object store stayed away")

    monkeypatch.setattr(blobs, "sweep", sweep)
    job = catalogue.jobs.enqueue(JobKind.INDEX, "m/r")
    relay = Relay(catalogue, blobs, settings, into(rung), clock)
    relay.round()
    assert rung == [job]
    clock.now_s += SWEEP_S
    relay.round()
    assert swept == [0, 1], "each part has its turn"


def test_files_of_deleted_studies_go_in_time(
    catalogue: Catalogue, relay: Relay, clock: Clock, settings: Settings
) -> None:
    blobs = BlobStore(settings.home / "blobs")
    kept, gone = (blobs.put(content)[0] for content in (b"kept", b"gone"))
    for sha256 in (kept, gone):
        os.utime(blobs.path(sha256), (time.time() - YOUNG_S - 1,) * 2)
    catalogue.instances.add(header(), content_sha256=kept, size_bytes=4, source="TEST")
    relay.round()
    relay.round()
    assert blobs.path(gone).exists(), "each look is at a part"
    while clock.now_s < PRUNE_S:
        clock.now_s += SWEEP_S
        relay.round()
    assert blobs.path(kept).exists() and not blobs.path(gone).exists()


def test_a_deleted_vector_leaves_the_index_files_in_time(
    catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock
) -> None:
    """It left every answer at once; here its bytes go as well, though one deletion alone does not justify a merge."""
    now_s = time.time()
    relay = relay_at(lambda: now_s, catalogue, settings, rung, clock)
    merge = IndexPartition(catalogue, settings.home)
    folder = partition_folder(settings.home, MODEL, "chest")
    deleted = encoding(1, 1)
    secret = deleted.vectors[deleted.regions.index("chest")].tobytes()

    def on_disk() -> bool:
        return any(secret in path.read_bytes() for path in folder.rglob("*") if path.is_file())

    def merges_asked_for() -> int:
        clock.now_s += max(SURVEY_S, PRUNE_S)
        relay.round()
        return sum(count.count for count in catalogue.overview().jobs if count.kind is JobKind.INDEX and count.oldest_s)

    register(catalogue)
    for study in (1, 2, 3):
        encoded(catalogue, study)
    for region in deleted.regions:
        merge(claimed(catalogue, JobKind.INDEX, f"{MODEL}/{region}"))
    assert on_disk() and merges_asked_for() == 0
    catalogue.studies.delete("2.25.1")
    assert merges_asked_for() == 0, "not for every deletion at once"
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("UPDATE encoding_gone SET at = at - make_interval(secs => %s)", [FORGET_S + 1])
    assert merges_asked_for() == len(deleted.regions)
    for region in deleted.regions:
        merge(claimed(catalogue, JobKind.INDEX, f"{MODEL}/{region}"))
    assert merges_asked_for() == 0, "it is forgotten, once"
    assert on_disk(), "a reader may be about to open the old generation"
    now_s = time.time() + GRACE_S + 1
    merges_asked_for()
    assert not on_disk()


def test_a_published_generation_stays_whatever_stands_beside_it(
    catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock
) -> None:
    """A build that was never recorded, as after kill -9 at the wrong moment, is newer and is not used."""
    register(catalogue)
    encoded(catalogue)
    merge = IndexPartition(catalogue, settings.home)
    merge(claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest"))
    published = catalogue.generations.published(MODEL, "chest")
    assert published is not None
    folder = partition_folder(settings.home, MODEL, "chest")
    (folder / "99999999-0123456789ab").mkdir()
    later = time.time() + 10 * GRACE_S
    relay_at(lambda: later, catalogue, settings, rung, clock).round()
    assert (folder / published.name).is_dir()


def test_the_index_of_a_retired_model_goes_in_time(
    catalogue: Catalogue, settings: Settings, rung: list[int], clock: Clock
) -> None:
    """It is never merged again, so deleted vectors would stay in it."""
    now_s = time.time()
    relay = relay_at(lambda: now_s, catalogue, settings, rung, clock)
    register(catalogue)
    encoded(catalogue)
    IndexPartition(catalogue, settings.home)(claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest"))
    folder = partition_folder(settings.home, MODEL, "chest")
    register(catalogue, "cxr-next-1")
    with psycopg.connect(catalogue.conninfo) as connection:  # as an update from before the history leaves it
        connection.execute("UPDATE model SET kept_until = NULL WHERE model_id = %s", [MODEL])
    other = partition_folder(settings.home, "cxr-next-1", "chest")
    other.mkdir(parents=True)
    relay.round()
    assert folder.exists(), "somebody may want to go back to it"
    clock.now_s, now_s = PRUNE_S, now_s + KEEP_DONE_S + 1
    relay.round()
    assert not folder.exists() and other.exists()


def test_the_index_of_a_model_that_is_cleared_away_goes_with_it(
    catalogue: Catalogue, settings: Settings, relay: Relay
) -> None:
    register(catalogue)
    encoded(catalogue)
    IndexPartition(catalogue, settings.home)(claimed(catalogue, JobKind.INDEX, f"{MODEL}/chest"))
    register(catalogue, "cxr-next-1")
    relay.round()
    assert partition_folder(settings.home, MODEL, "chest").exists(), "somebody may want to go back to it"
    catalogue.models.retire(MODEL, by="test", reason="nobody goes back to it")
    Upkeep(catalogue, settings).tidy()
    assert not (settings.home / "index" / MODEL).exists()


def test_old_reports_are_mined_again_without_a_pause_between_their_batches(
    catalogue: Catalogue, relay: Relay, rung: list[int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand every ten minutes were a week for a million reports."""
    monkeypatch.setattr("radir_workers.relay._OLD_REPORTS", 1)
    reports = []
    for study in (1, 2):
        add(catalogue, header(study))
        text = f"Pneumothorax on day {study}."
        reports.append(catalogue.reports.add(f"2.25.{study}", body=text, source="csv", findings=[], parser="en-0"))

    def announced() -> list[int]:
        jobs = [catalogue.jobs.get(job_id) for job_id in rung]
        return [job.id for job in jobs if job is not None and job.kind is JobKind.REPORT]

    for report_id in reports:
        relay.round()
        [job_id] = announced()
        job = catalogue.jobs.claim(job_id, "test")
        assert job is not None
        clock.now_s += SURVEY_S
        relay.round()
        assert announced() == [job_id], "the next ones when these are done"
        MineReport(catalogue)(job)
        assert catalogue.reports.get(report_id).parser == PARSER
        rung.clear()
        clock.now_s += SURVEY_S
    relay.round()
    assert announced() == []


def test_a_round_clears_away_some_of_a_model_and_the_next_one_goes_on(
    catalogue: Catalogue, settings: Settings, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of a million encodings held up all else that the relay does for minutes."""
    monkeypatch.setattr("radir_pacs.catalogue.reencoding._PRUNED", 1)
    monkeypatch.setattr("radir_pacs.catalogue.reencoding._PRUNINGS", 1)
    register(catalogue)
    for study in (1, 2):
        encoded(catalogue, study)
    register(catalogue, "cxr-next-1")
    catalogue.models.retire(MODEL, by="test", reason="nobody goes back to it")
    left: list[int] = []
    while not left or catalogue.reencoding.to_prune():
        relay.round()
        left.append(catalogue.models.coverage(MODEL).encoded)
        assert len(left) < 9
    assert left[0] == 1 and left[-1] == 0


def test_refusals_do_not_grow_without_bound(
    catalogue: Catalogue, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radir_workers.relay.MOST_REFUSALS", 3)
    for number in range(5):
        catalogue.refusals.add(f"2.25.{number}", "odd", 0xC000, "PEER")
    relay.round()
    assert [refusal.sop_uid for refusal in catalogue.refusals.recent()] == ["2.25.4", "2.25.3", "2.25.2"]


@pytest.mark.parametrize("url", ["filesystem://", "sqla+sqlite://", "nonsense"])
def test_a_toy_broker_is_refused(catalogue: Catalogue, settings: Settings, url: str) -> None:
    from dataclasses import replace

    with pytest.raises(SettingError, match="broker_url"):
        make_app(replace(settings, broker_url=url), catalogue)


def test_what_waits_for_other_machines_has_a_queue_of_its_own_and_leaves_room(
    catalogue: Catalogue, settings: Settings, clock: Clock
) -> None:
    """A hundred pulls from a slow PACS hold up neither the network nor a report that somebody saves."""
    pulls = [catalogue.jobs.enqueue(JobKind.PULL, f"2.25.{n}") for n in range(100)]
    sent = catalogue.jobs.enqueue(JobKind.SEND, "2.25.7")
    committed = catalogue.jobs.enqueue(JobKind.COMMITMENT, "1")
    merge = catalogue.jobs.enqueue(JobKind.INDEX, "m/chest")
    work = catalogue.jobs.enqueue(JobKind.REPORT, "1.2.3")
    rung: list[tuple[int, str]] = []
    relay = Relay(
        catalogue,
        BlobStore(settings.home / "blobs"),
        settings,
        lambda job_id, queue: rung.append((job_id, queue)),
        clock,
    )
    relay.round()
    room = settings.transfer_threads - 1
    transfers = [*pulls[:room], sent, committed]
    assert rung == [(work, QUEUE), (merge, INDEX_QUEUE), *((job_id, TRANSFER_QUEUE) for job_id in transfers)]
    for job_id in pulls[:room]:
        assert catalogue.jobs.claim(job_id, "transfer") is not None
    rung.clear()
    relay.round()
    assert rung == [], "those that run take their room"
    first = catalogue.jobs.get(pulls[0])
    assert first is not None
    catalogue.jobs.finish(first)
    relay.round()
    assert rung == [(pulls[room], TRANSFER_QUEUE)]
