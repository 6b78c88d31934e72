"""`radir index move`: from files to another engine and back while questions are asked, stopped and begun again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from radir_pacs.access import erasure
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.cli.diagnosis import services
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import EngineAway, SettingError
from radir_pacs.index import open_generation, outside, partition_folder
from radir_pacs.index.engine import LOCAL, PGVECTOR
from radir_pacs.index.engines import Engines
from radir_pacs.query import Searcher, partitions
from radir_pacs.similar_cases import Query
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobKind
from radir_workers import fill_engine, index_partition
from radir_workers.index_partition import IndexPartition
from radir_workers.relay import PRUNE_S, Relay
from tests.catalogue_material import DIM, MODEL, REGIONS, TESTER, add, claimed, encoding, header, register

COUNT = 30
CHEST = (MODEL, "chest")


@pytest.fixture
def archive(catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Three regions in files."""
    monkeypatch.setattr(outside, "ROWS_PER_CANDIDATE", 0.001)  # the engine, however few there are
    register(catalogue)
    for study in range(1, COUNT + 1):
        grow(catalogue, study)
    for region in REGIONS:
        IndexPartition(catalogue, settings.home)(claimed(catalogue, JobKind.INDEX, f"{MODEL}/{region}"))
    return catalogue


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)


def grow(catalogue: Catalogue, study: int) -> None:
    add(catalogue, header(study))
    catalogue.studies.complete_now(f"2.25.{study}")
    catalogue.encodings.save(encoding(study, seed=study), revision=1)


class Indexer:
    """Does index jobs in a thread, as the process of that name does."""

    def __init__(self, catalogue: Catalogue, settings: Settings, most: int = 1_000_000) -> None:
        self._catalogue, self._stop = catalogue, threading.Event()
        self._work = IndexPartition(catalogue, settings.home, most=most, engines=Engines(catalogue, settings))
        self._thread = threading.Thread(target=self._run)
        catalogue.processes.say_alive("indexer", os.getpid(), "UP")

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for job_id in self._catalogue.jobs.to_announce(16, ring_again_s=0, kinds=(JobKind.INDEX,)):
                job = self._catalogue.jobs.claim(job_id, "indexer")
                if job is not None:
                    self._work(job)

    def __enter__(self) -> Indexer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


@pytest.fixture
def asked(archive: Catalogue, settings: Settings) -> Iterator[list[str]]:
    """Questions without a pause; each answer is whole. Yields the generations that answered."""
    searcher, stop = Searcher(archive, settings), threading.Event()
    query = Query(study_uid="2.25.1", region="chest", limit=10)
    expected = [case.study.study_uid for case in searcher.similar(query, TESTER).cases]
    generations: list[str] = []
    wrong: list[list[str]] = []

    def ask() -> None:
        while not stop.is_set():
            answer = searcher.similar(query, TESTER)
            generations.append(str(answer.generation))
            cases = [case.study.study_uid for case in answer.cases]
            if cases != expected:
                wrong.append(cases)

    thread = threading.Thread(target=ask)
    thread.start()
    yield generations
    stop.set()
    thread.join(60)
    assert not wrong and len(expected) == 10


def moved(capsys: pytest.CaptureFixture[str], to: str) -> dict[str, int]:
    assert main(["index", "move", "--to", to, "--json"]) == 0
    found: dict[str, int] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("environment")
def test_it_moves_and_comes_back_while_questions_are_asked(
    archive: Catalogue, settings: Settings, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Indexer(archive, settings):
        done = moved(capsys, PGVECTOR)
        assert (done["partitions"], done["partitions_left"], done["vectors"]) == (3, 0, 3 * COUNT)
        assert main(["index", "show", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["engine"] == PGVECTOR
        assert [row["engine"] for row in found["partitions"]] == [PGVECTOR] * 3
        assert main(["index", "show"]) == 0
        assert "pgvector" in capsys.readouterr().out
        main(["status", "--json"])
        status = json.loads(capsys.readouterr().out)
        assert (status["index_engine"], status["index_moving"]) == (PGVECTOR, 0)
        main(["status"])
        assert "index       pgvector" in capsys.readouterr().out
        assert moved(capsys, PGVECTOR)["partitions"] == 0, "it is there"
        seen = len(asked)
        while not any(name.endswith(PGVECTOR) for name in asked[seen:]):
            pass
        assert moved(capsys, LOCAL)["partitions"] == 3
    published = archive.generations.published(*CHEST)
    assert published is not None and published.engine == LOCAL


@pytest.mark.usefixtures("environment")
def test_the_old_engine_answers_until_the_new_one_has_all(
    archive: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several jobs a region; amid them the new one is on its way. A killed command or indexer changes nothing of it."""
    monkeypatch.setattr(fill_engine, "LONGEST_TAIL", 1)
    assert main(["index", "move", "--to", PGVECTOR, "--no-wait"]) == 0
    capsys.readouterr()
    step = IndexPartition(archive, settings.home, most=12, engines=Engines(archive, settings))
    filled = []
    for _ in range(2):
        step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
        published = archive.generations.published(*CHEST)
        assert published is not None and published.engine == LOCAL
        filled += [one.filled for one in archive.generations.to_move(PGVECTOR) if one.region == "chest"]
    assert filled == [12, 24]
    grow(archive, COUNT + 1)
    archive.studies.delete("2.25.2")
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    published = archive.generations.published(*CHEST)
    assert published is not None and (published.engine, published.count) == (PGVECTOR, COUNT)
    assert {one.region for one in archive.generations.to_move(PGVECTOR)} == {"left_lung", "right_lung"}
    assert services.SERVICES  # `radir doctor` says that it is under way
    codes = {finding.code: finding.level for finding in services.engine(archive, settings)}
    assert codes == {"ENGINE": "ok", "ENGINE_SETTING": "warning", "ENGINE_MOVING": "warning"}


@pytest.mark.usefixtures("environment")
def test_turned_back_halfway_what_was_filled_is_cleared(
    archive: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fill_engine, "LONGEST_TAIL", 1)
    archive.generations.choose_engine(PGVECTOR)
    step = IndexPartition(archive, settings.home, most=12, engines=Engines(archive, settings))
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    with Indexer(archive, settings):
        assert moved(capsys, LOCAL)["partitions_left"] == 0
    assert len(archive.vectors.labels(CHEST)) == 12
    relay = relay_of(archive, settings)
    prune(relay)
    assert len(archive.vectors.labels(CHEST)) == 12, "somebody may be asking it"
    age(settings)
    prune(relay)
    assert len(archive.vectors.labels(CHEST)) == 0
    assert archive.generations.held_outside() == []


def relay_of(catalogue: Catalogue, settings: Settings) -> Relay:
    return Relay(catalogue, BlobStore(settings.home / "blobs"), settings, lambda job_id, queue: None)


def age(settings: Settings) -> None:
    """Two hours go by for what was published."""
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("UPDATE generation SET published_at = published_at - interval '2 hours'")


def prune(relay: Relay) -> None:
    for step in (*relay._pruning(), relay._clear_engines):
        step()


def test_an_hour_after_a_move_the_old_engine_is_cleared(archive: Catalogue, settings: Settings) -> None:
    archive.generations.choose_engine(PGVECTOR)
    engines = Engines(archive, settings)
    step = IndexPartition(archive, settings.home, engines=engines)
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    folder = partition_folder(settings.home, *CHEST)
    relay = relay_of(archive, settings)
    prune(relay)
    assert folder.is_dir(), "somebody may be opening it"
    relay._now_s = lambda: folder.stat().st_mtime + 7200  # type: ignore[method-assign]
    prune(relay)
    assert not folder.exists()
    assert partition_folder(settings.home, MODEL, "left_lung").is_dir(), "that region has yet to move"
    archive.generations.choose_engine(LOCAL)
    age(settings)
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    age(settings)
    prune(relay)
    assert len(archive.vectors.labels(CHEST)) == 0
    answer = Searcher(archive, settings).similar(Query(study_uid="2.25.1", region="chest", limit=10), TESTER)
    published = archive.generations.published(*CHEST)
    assert published is not None and answer.generation == published.name


def test_the_relay_asks_for_what_has_yet_to_move(archive: Catalogue, settings: Settings) -> None:
    relay = relay_of(archive, settings)
    relay._ask_for_merges()
    assert archive.jobs.to_announce(16, kinds=(JobKind.INDEX,)) == []
    archive.generations.choose_engine(PGVECTOR)
    relay._ask_for_merges()
    assert len(archive.jobs.to_announce(16, kinds=(JobKind.INDEX,))) == 3


@pytest.mark.usefixtures("environment")
def test_what_cannot_be_is_said_before_anything_moves(
    archive: Catalogue, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["index", "move", "--to", "milvus"]) == 1
    assert "milvus_url" in capsys.readouterr().err
    monkeypatch.setenv("RADIR_MILVUS_URL", "http://127.0.0.1:1")
    assert main(["index", "move", "--to", "milvus"]) == 1
    assert "Milvus does not answer" in capsys.readouterr().err
    assert archive.generations.engine() == LOCAL
    assert main(["index", "move", "--to", PGVECTOR]) == 1
    assert "no indexer runs" in capsys.readouterr().err
    assert archive.generations.engine() == PGVECTOR, "it is under way, and goes on when one runs"


def test_a_database_without_the_extension_is_told_what_to_do(settings: Settings, catalogue: Catalogue) -> None:
    """As on a hospital's own server: the role may not make extensions."""
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute(f"GRANT ALL ON DATABASE {connection.info.dbname} TO plain".encode())
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
    try:
        with Catalogue.as_it_is(replace(settings, database_url=f"{settings.database_url} user=plain")) as plain:
            with pytest.raises(SettingError, match="CREATE EXTENSION vector"):
                plain.vectors.check()
            with pytest.raises(SettingError, match="CREATE EXTENSION vector"):
                plain.vectors.settle(CHEST, 8)
    finally:
        with psycopg.connect(settings.database_url) as connection:
            connection.execute("DROP OWNED BY plain")
            connection.execute("DROP ROLE plain")


def test_an_engine_that_a_process_cannot_reach_is_said(settings: Settings, catalogue: Catalogue) -> None:
    away = replace(settings, milvus_url="http://127.0.0.1:1", milvus_timeout_s=1)
    with closing(Engines(catalogue, away)) as engines, pytest.raises(EngineAway):
        engines.named("milvus").check()
    with closing(Engines(catalogue, settings)) as engines, pytest.raises(SettingError, match="milvus_url"):
        engines.named("milvus")


def test_the_first_to_ask_decides_where_a_new_index_begins(settings: Settings, catalogue: Catalogue) -> None:
    """Else two machines with different settings would build it here and there in turn."""
    with Catalogue.open(replace(settings, index_engine=PGVECTOR)) as other:
        assert other.generations.engine() == PGVECTOR
    assert catalogue.generations.engine() == PGVECTOR
    catalogue.generations.choose_engine(LOCAL)
    with Catalogue.open(replace(settings, index_engine=PGVECTOR)) as other:
        assert other.generations.engine() == LOCAL


class Away:
    """An engine that does not answer, and notes that it was asked."""

    def __init__(self, asked: list[object]) -> None:
        self._asked = asked

    def __getattr__(self, method: str) -> Callable[..., None]:
        def ask(*given: object) -> None:
            self._asked.append(method)
            raise EngineAway

        return ask


def test_an_engine_that_is_away_is_asked_once_and_holds_nothing_back(
    catalogue: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(catalogue)
    done: list[object] = []
    places = [(MODEL, region, PGVECTOR) for region in REGIONS]
    monkeypatch.setattr(Engines, "named", lambda engines, name: Away(done))
    monkeypatch.setattr(type(catalogue.generations), "to_clear", lambda generations, after_s: places)
    monkeypatch.setattr(type(catalogue.generations), "held_outside", lambda generations: places)
    job = catalogue.jobs.enqueue(JobKind.INDEX, f"{MODEL}/chest")
    blobs = BlobStore(settings.home / "blobs")
    now_s = [0.0]
    relay = Relay(catalogue, blobs, settings, lambda job_id, queue: done.append(job_id), lambda: now_s[0])
    relay.round()
    assert done == [job, "clear"]
    now_s[0] = PRUNE_S - 1
    relay.round()
    assert done.count("clear") == 1
    now_s[0] = PRUNE_S
    relay.round()
    assert done.count("clear") == 2
    done.clear()
    add(catalogue, header(1))
    found = {place.name: place.found for place in erasure.erase("2.25.1", catalogue, settings, by=TESTER)}
    assert found[f"vector engine {PGVECTOR}"] is None
    assert done == ["remove", "holds"]


def test_two_questions_together_after_a_move_are_answered_whole(
    archive: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them opens the new generation; the old engine is cleared by then."""
    step = IndexPartition(archive, settings.home, engines=Engines(archive, settings))
    archive.generations.choose_engine(PGVECTOR)
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    searcher, query = Searcher(archive, settings), Query(study_uid="2.25.1", region="chest", limit=10)
    expected = [case.study.study_uid for case in searcher.similar(query, TESTER).cases]
    archive.generations.choose_engine(LOCAL)
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    archive.vectors.clear(CHEST)
    really, opens, waits, go_on = open_generation, threading.Event(), threading.Event(), threading.Event()
    entry = searcher._partitions._open[CHEST]
    held = entry.opening

    def slow(*given: Any, **named: Any) -> Any:
        opens.set()
        assert go_on.wait(60)
        return really(*given, **named)

    class Noticed:
        """The lock; it tells when the second question waits for it."""

        release = held.release

        def acquire(self, blocking: bool) -> bool:
            if blocking and opens.is_set():
                waits.set()
            return held.acquire(blocking)

    monkeypatch.setattr(partitions, "open_generation", slow)
    monkeypatch.setattr(entry, "opening", Noticed())
    with ThreadPoolExecutor() as threads:
        first = threads.submit(searcher.similar, query, TESTER)
        assert opens.wait(60)
        second = threads.submit(searcher.similar, query, TESTER)
        waited = waits.wait(20)
        go_on.set()
        assert waited
        for answer in (first.result(60), second.result(60)):
            assert [case.study.study_uid for case in answer.cases] == expected
            assert answer.generation is not None


def test_a_question_overtaken_by_a_loss_is_not_answered_from_an_empty_partition(
    archive: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another question finds the generation lost while this one follows a newer build."""
    opened = partitions.Partitions(archive, settings)
    count = opened.fresh(*CHEST, dim=DIM).count
    entry = opened._open[CHEST]
    IndexPartition(archive, settings.home)(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    monkeypatch.setattr(partitions.Partitions, "_follow", lambda *given: entry.forget())
    assert count == COUNT
    assert opened.fresh(*CHEST, dim=DIM).count == COUNT


def test_what_builds_go_to_is_not_cleared_though_a_generation_there_was_refused(
    archive: Catalogue, settings: Settings
) -> None:
    step = IndexPartition(archive, settings.home, engines=Engines(archive, settings))
    archive.generations.choose_engine(PGVECTOR)
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    published = archive.generations.published(*CHEST)
    assert published is not None
    archive.generations.cleared(*CHEST, PGVECTOR)
    assert archive.generations.published(*CHEST) == published, "it is held there"
    archive.generations.refuse(*CHEST, published.name, reason="a test")
    age(settings)
    prune(relay_of(archive, settings))
    assert len(archive.vectors.labels(CHEST)) == COUNT
    archive.generations.choose_engine(LOCAL)
    job = claimed(archive, JobKind.INDEX, f"{MODEL}/chest")
    prune(relay_of(archive, settings))
    assert len(archive.vectors.labels(CHEST)) == COUNT, "a job that began before works on the partition"
    archive.jobs.finish(job)
    prune(relay_of(archive, settings))
    assert len(archive.vectors.labels(CHEST)) == 0
    assert archive.generations.held_outside() == []


def test_files_altered_while_they_are_moved_to_are_built_anew(
    archive: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_partition, "lacks_much", lambda *given: True)
    step = IndexPartition(archive, settings.home, engines=Engines(archive, settings))
    archive.generations.choose_engine(PGVECTOR)
    monkeypatch.setattr(fill_engine, "lacks_much", lambda *given: False)
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    archive.generations.choose_engine(LOCAL)
    step(claimed(archive, JobKind.INDEX, f"{MODEL}/chest"))
    filling = archive.generations.filling(*CHEST, LOCAL)
    assert filling is not None
    assert archive.generations.refuse(*CHEST, filling.name, reason="a test")
    assert archive.generations.filling(*CHEST, LOCAL) is None, "else each attempt would go on from it"
    published = archive.generations.published(*CHEST)
    assert published is not None and published.engine == PGVECTOR, "it answers as before"
