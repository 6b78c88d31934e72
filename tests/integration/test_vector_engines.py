"""Questions while files, pgvector or Milvus hold the vectors: the same answers, whatever happens to an engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date

import numpy as np
import psycopg
import pytest
import requests

from radir_pacs import config
from radir_pacs.access import erasure
from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import EngineAway, LeaseLost, NotReady
from radir_pacs.index import outside
from radir_pacs.index.engine import LOCAL, MILVUS, PGVECTOR, engine_of
from radir_pacs.index.engines import Engines
from radir_pacs.index.milvus import MilvusEngine
from radir_pacs.index.writer import MOST
from radir_pacs.query import Searcher
from radir_pacs.scopes import Scope
from radir_pacs.similar_cases import Filters, Query, WeightedRegion
from radir_pacs.types import JobKind
from radir_workers.index_partition import IndexPartition
from tests.catalogue_material import DIM, MODEL, TESTER, add, claimed, encoded, encoding, header, register
from tests.conftest import free_port
from tests.integration.conftest import running
from tests.vector_engines import ENGINES, OUTSIDE, MilvusServer, milvus_server

COUNT = 31
CHEST = (MODEL, "chest")
of_outside_engines = pytest.mark.parametrize("engine", OUTSIDE, indirect=True)


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    with milvus_server(tmp_path_factory.mktemp("milvus"), free_port()) as server:
        yield server


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of each; small partitions are searched by the engine too."""
    monkeypatch.setattr(outside, "ROWS_PER_CANDIDATE", 0.001)
    name: str = request.param
    return name


@pytest.fixture
def settings(settings: Settings, engine: str, request: pytest.FixtureRequest) -> Settings:
    url = request.getfixturevalue("milvus").url if engine == MILVUS else ""
    return replace(settings, index_engine=engine, milvus_url=url, milvus_timeout_s=60)  # a busy machine is not away


@pytest.fixture
def archive(catalogue: Catalogue) -> Catalogue:
    register(catalogue)
    for study in range(1, COUNT + 1):
        day = date(2024 if study % 2 else 2020, 1, 1)
        add(catalogue, header(study, patient_sex="F" if study % 3 else "M", study_date=day))
        catalogue.studies.complete_now(f"2.25.{study}")
        catalogue.encodings.save(encoding(study, seed=study), revision=1)
    return catalogue


def merge(catalogue: Catalogue, settings: Settings, region: str = "chest", most: int = MOST) -> str:
    """What an index job does; the name of the generation that answers after it."""
    engines = Engines(catalogue, settings)
    IndexPartition(catalogue, settings.home, engines=engines, most=most)(
        claimed(catalogue, JobKind.INDEX, f"{MODEL}/{region}")
    )
    engines.close()
    published = catalogue.generations.published(MODEL, region)
    assert published is not None
    return published.name


def uids(catalogue: Catalogue, settings: Settings, searcher: Searcher | None = None, **asked: object) -> list[str]:
    given: dict[str, object] = {"study_uid": "2.25.1", "region": "chest", "limit": 10}
    answer = (searcher or Searcher(catalogue, settings)).similar(Query(**(given | asked)), TESTER)  # type: ignore[arg-type]
    return [case.study.study_uid for case in answer.cases]


def test_an_engine_answers_as_exact_search_does(archive: Catalogue, settings: Settings, engine: str) -> None:
    searcher = Searcher(archive, settings)
    query = Query(study_uid="2.25.1", region="chest", limit=10)
    before = searcher.similar(query, TESTER)
    assert before.generation is None and before.exact, "all is tail"
    name = merge(archive, settings)
    assert engine_of(name) == engine
    after = searcher.similar(query, TESTER)
    assert after.generation == name
    assert after.exact == (engine == LOCAL)
    assert [(case.study.study_uid, case.score) for case in after.cases] == [
        (case.study.study_uid, case.score) for case in before.cases
    ]


def test_ten_asked_are_ten_allowed(archive: Catalogue, settings: Settings) -> None:
    """Filters and scope inside the search: a third of the cases passes, and each that passes can be reached."""
    searcher = Searcher(archive, settings)
    men = [f"2.25.{study}" for study in range(3, COUNT + 1, 3)]
    narrow = {"filters": Filters(sexes=frozenset({"M"}))}
    before = uids(archive, settings, searcher, **narrow)
    merge(archive, settings)
    assert uids(archive, settings, searcher, **narrow) == before and len(before) == 10
    assert set(before) <= set(men)
    assert sorted(uids(archive, settings, searcher, limit=50, **narrow)) == sorted(men)
    scoped = {"filters": Filters(scope=Scope(since=date(2024, 1, 1)))}
    odd = {f"2.25.{study}" for study in range(3, COUNT + 1, 2)}
    seen = uids(archive, settings, searcher, **scoped)
    assert len(seen) == 10 and set(seen) <= odd
    assert set(uids(archive, settings, searcher, limit=50, **scoped)) == odd
    pages: list[str] = []
    for offset in range(0, 15, 5):
        pages += uids(archive, settings, searcher, limit=5, offset=offset)
    assert pages == uids(archive, settings, searcher, limit=15)


def test_what_is_deleted_or_new_shows_in_the_next_answer(archive: Catalogue, settings: Settings) -> None:
    merge(archive, settings)
    ours, another = Searcher(archive, settings), Searcher(archive, settings)
    first = uids(archive, settings, ours)
    assert uids(archive, settings, another) == first
    archive.studies.delete(first[0])
    encoded(archive, COUNT + 1, seed=1)  # the same vector as the query's
    for searcher in (ours, another):
        now = uids(archive, settings, searcher)
        assert first[0] not in now and now[0] == f"2.25.{COUNT + 1}" and len(now) == 10
    merge(archive, settings)
    assert uids(archive, settings, ours) == now
    assert uids(archive, settings) == now, "in a new process"


def test_two_regions_are_one_list(archive: Catalogue, settings: Settings) -> None:
    searcher = Searcher(archive, settings)
    both = {"region": "left_lung", "also": (WeightedRegion(key="right_lung", weight=2.0),)}
    before = uids(archive, settings, searcher, **both)
    merge(archive, settings, "left_lung")
    merge(archive, settings, "right_lung")
    assert uids(archive, settings, searcher, **both) == before


@of_outside_engines
def test_a_large_region_takes_several_jobs(archive: Catalogue, settings: Settings, engine: str) -> None:
    merge(archive, settings, most=12)
    published = archive.generations.published(*CHEST)
    assert published is not None and published.count == 12, "without another build it answers at once"
    before = uids(archive, settings, limit=COUNT)
    assert len(before) == COUNT - 1, "the rest is in the tail"
    merge(archive, settings, most=12)
    merge(archive, settings, most=12)
    assert uids(archive, settings, limit=COUNT) == before
    published = archive.generations.published(*CHEST)
    assert published is not None and published.count == COUNT


@of_outside_engines
def test_killed_amid_filling_it_goes_on(archive: Catalogue, settings: Settings, engine: str) -> None:
    """kill -9 when the engine has a part of the vectors: nothing of them counts, and the next attempt completes it."""
    expected = uids(archive, settings)
    for _ in range(2):
        job = archive.jobs.enqueue(JobKind.INDEX, f"{MODEL}/chest")
        child = subprocess.run(
            [sys.executable, "-m", "tests.fault.killed_filling", str(job)],
            env=os.environ | config.to_environment(settings),
            capture_output=True,
            timeout=120,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        assert archive.generations.published(*CHEST) is None
        assert archive.generations.held_outside() == [(*CHEST, engine)], "an erasure looks there"
        assert uids(archive, settings) == expected
        with psycopg.connect(settings.database_url) as connection:  # as if its lease had run out
            connection.execute("DELETE FROM job WHERE id = %s", [job])
    with closing(Engines(archive, settings)) as engines:
        held = engines.named(engine)
        assert COUNT // 2 < len(held.labels(CHEST)) < COUNT, "the second attempt went on where the first was"
    merge(archive, settings)
    with closing(Engines(archive, settings)) as engines:
        assert len(engines.named(engine).labels(CHEST)) == COUNT
    assert uids(archive, settings) == expected


@of_outside_engines
def test_vectors_that_an_outlived_attempt_left_are_removed(archive: Catalogue, settings: Settings, engine: str) -> None:
    """Of a study that is gone meanwhile; and what somebody deleted there is filled in again."""
    merge(archive, settings)
    expected = uids(archive, settings)
    with closing(Engines(archive, settings)) as engines:
        held = engines.named(engine)
        labels = held.labels(CHEST)
        held.add(CHEST, np.array([10**6], np.int64), np.eye(1, DIM, dtype=np.float32))
        held.remove(CHEST, labels[:5])
    merge(archive, settings)
    with closing(Engines(archive, settings)) as engines:
        assert engines.named(engine).labels(CHEST).tolist() == labels.tolist()
    assert uids(archive, settings) == expected


@of_outside_engines
def test_an_attempt_that_lost_its_lease_removes_nothing_and_asks_for_another(
    archive: Catalogue, settings: Settings, engine: str
) -> None:
    """What it does not know may be what its successor published."""
    lost = claimed(archive, JobKind.INDEX, f"{MODEL}/chest")
    archive.jobs.finish(lost)
    with closing(Engines(archive, settings)) as engines:
        held = engines.named(engine)
        held.clear(CHEST)
        held.add(CHEST, np.array([10**6], np.int64), np.eye(1, DIM, dtype=np.float32))
        with pytest.raises(LeaseLost):
            IndexPartition(archive, settings.home, engines=engines)(lost)
        assert held.labels(CHEST).tolist() == [10**6]
        assert len(archive.jobs.to_announce(16, kinds=(JobKind.INDEX,))) == 1
        merge(archive, settings)
        assert len(held.labels(CHEST)) == COUNT


@of_outside_engines
def test_what_a_later_attempt_added_stays(archive: Catalogue, settings: Settings, engine: str) -> None:
    merge(archive, settings, most=12)
    expected = uids(archive, settings)
    labels = archive.encodings.labels_until(*CHEST, archive.generations.snapshot_xmin())
    with closing(Engines(archive, settings)) as engines:
        held = engines.named(engine)
        held.add(CHEST, *archive.encodings.vectors_of(*CHEST, labels[-3:]))
        merge(archive, settings, most=12)
        assert held.labels(CHEST).tolist() == [*labels[:24], *labels[-3:]]
    published = archive.generations.published(*CHEST)
    assert published is not None and published.count == 24
    assert uids(archive, settings) == expected


@of_outside_engines
def test_erased_vectors_leave_the_engine_at_once(archive: Catalogue, settings: Settings, engine: str) -> None:
    merge(archive, settings)
    with closing(Engines(archive, settings)) as engines:
        before = engines.named(engine).labels(CHEST)
        places = erasure.erase("2.25.7", archive, settings, by=TESTER)
        assert {place.name: place.found for place in places}[f"vector engine {engine}"] == 0
        assert len(engines.named(engine).labels(CHEST)) == len(before) - 1


@of_outside_engines
def test_an_engine_that_lost_its_vectors_is_filled_anew(archive: Catalogue, settings: Settings, engine: str) -> None:
    name = merge(archive, settings)
    searcher = Searcher(archive, settings)
    expected = uids(archive, settings, searcher)
    with closing(Engines(archive, settings)) as engines:
        drop_all(engines, engine, settings)
    with pytest.raises(NotReady, match="filled anew"):
        uids(archive, settings, searcher)
    assert archive.generations.published(*CHEST) is None
    assert uids(archive, settings, searcher) == expected, "exactly, from the catalogue"
    assert merge(archive, settings) != name
    assert uids(archive, settings, searcher) == expected


@of_outside_engines
def test_an_emptied_region_is_filled_anew_and_the_other_answers_on(
    archive: Catalogue, settings: Settings, engine: str
) -> None:
    """Its collection or its table stands."""
    right = merge(archive, settings, "right_lung")
    merge(archive, settings, "left_lung")
    searcher = Searcher(archive, settings)
    both = {"region": "right_lung", "also": (WeightedRegion(key="left_lung", weight=2.0),)}
    expected = uids(archive, settings, searcher, **both)
    with closing(Engines(archive, settings)) as engines:
        held = engines.named(engine)
        held.remove((MODEL, "left_lung"), held.labels((MODEL, "left_lung")))
    with pytest.raises(NotReady, match="filled anew"):
        uids(archive, settings, searcher, **both)
    assert archive.generations.published(MODEL, "left_lung") is None
    published = archive.generations.published(MODEL, "right_lung")
    assert published is not None and published.name == right
    assert uids(archive, settings, searcher, **both) == expected


def drop_all(engines: Engines, engine: str, settings: Settings) -> None:
    """As an administrator of the engine could."""
    if engine == PGVECTOR:
        with psycopg.connect(settings.database_url) as connection:
            connection.execute("DROP SCHEMA radir_vectors CASCADE")
        return
    milvus = engines.named(MILVUS)
    assert isinstance(milvus, MilvusEngine)
    milvus._client().drop_collection(milvus._collection(CHEST))


@pytest.mark.parametrize("engine", [MILVUS], indirect=True)  # pgvector is the database: test_database_away.py
def test_an_engine_that_is_down_is_said_and_comes_back(
    archive: Catalogue, settings: Settings, engine: str, request: pytest.FixtureRequest
) -> None:
    server: MilvusServer = request.getfixturevalue("milvus")
    merge(archive, settings)
    with running(settings, archive) as web:
        address = f"{web.root}/api/studies/2.25.1/similar?region=chest"
        before = requests.get(address, timeout=30)
        assert before.status_code == 200, before.text
        server.kill()
        try:
            down = requests.get(address, timeout=30)
            assert down.status_code == 503
            assert down.json()["error"]["code"] == EngineAway.code
            with pytest.raises(EngineAway):
                merge(archive, settings)
            assert archive.generations.published(*CHEST) is not None, "what it holds is believed when it is back"
        finally:
            server.start()
        back = requests.get(address, timeout=30)
        assert back.status_code == 200
        assert back.text.splitlines()[1:] == before.text.splitlines()[1:]


@pytest.mark.parametrize("engine", [PGVECTOR], indirect=True)
def test_backups_have_neither_copies_nor_the_extension(archive: Catalogue, settings: Settings) -> None:
    """So a server without pgvector can take the backup, and nothing stale is ever believed."""
    merge(archive, settings)
    with archive.backups.alone() as connection, archive.backups.snapshot(connection) as snapshot:
        dump = b"".join(snapshot.dump())  # the names in its table of contents are plain text
    assert b"encoding_gone" in dump
    assert b"radir_vectors" not in dump and b"halfvec" not in dump and b"EXISTS vector" not in dump
