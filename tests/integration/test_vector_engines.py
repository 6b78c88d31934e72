"""Questions while files, pgvector or Milvus hold the vectors: the same answers, whatever happens to an engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.index import outside
from radir_pacs.index.engine import LOCAL, MILVUS, engine_of
from radir_pacs.index.engines import Engines
from radir_pacs.query import Searcher
from radir_pacs.similar_cases import Query
from radir_pacs.types import JobKind
from radir_workers.index_partition import IndexPartition
from tests.catalogue_material import MODEL, TESTER, claimed, encoded, register
from tests.conftest import free_port
from tests.vector_engines import ENGINES, MilvusServer, milvus_server

COUNT = 60
CHEST = (MODEL, "chest")


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
    return replace(settings, index_engine=engine, milvus_url=url)


@pytest.fixture
def archive(catalogue: Catalogue) -> Catalogue:
    register(catalogue)
    for study in range(1, COUNT + 1):
        encoded(catalogue, study, patient_sex="F" if study % 3 else "M")
    return catalogue


def merge(catalogue: Catalogue, settings: Settings, region: str = "chest", **changes: int) -> str:
    """What an index job does; the name of the generation that answers after it."""
    engines = Engines(catalogue, settings)
    IndexPartition(catalogue, settings.home, engines=engines, **changes)(
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
