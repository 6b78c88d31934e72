"""The contract of a generation, whoever holds it: files, pgvector, Milvus. A partition over it answers as exact search
over a dict would, whatever the engine was given twice, late, halfway, or never told.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import IndexRefused
from radir_pacs.index import Partition, build, exact_search, open_generation, partition_folder
from radir_pacs.index.builder import GraphSettings
from radir_pacs.index.engine import LOCAL, MILVUS, PGVECTOR, Engine, engine_of, outside_name
from radir_pacs.index.milvus import MilvusEngine
from radir_pacs.index.outside import OutsideGeneration
from radir_pacs.index.part import Holding
from radir_pacs.index.selection import Allowed
from radir_pacs.types import F32, I64
from tests.conftest import free_port
from tests.index_material import BUILT_AT, random_vectors, selecting, unit
from tests.vector_engines import ENGINES, OUTSIDE, MilvusServer, milvus_server

MODEL, OTHER, REGION, DIM = "tiny-1", "tiny-2", "heart", 4
PLACE = (MODEL, REGION)
VECTOR = st.lists(st.sampled_from([-2, -1, 1, 2]), min_size=DIM, max_size=DIM).map(unit)  # few values: many ties
LABELS = st.sets(st.integers(0, 60), max_size=8)
ALLOWED = st.one_of(st.none(), LABELS, LABELS.map(lambda left_out: set(range(200)) - left_out))
EXAMPLES = {LOCAL: 20, PGVECTOR: 20, MILVUS: 4}  # a change in milvus-lite takes tens of milliseconds


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    with milvus_server(tmp_path_factory.mktemp("milvus"), free_port()) as server:
        yield server


@pytest.fixture(params=OUTSIDE)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each outside engine, empty."""
    yield from opened(request.param, request)


def opened(name: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    if name == PGVECTOR:
        catalogue: Catalogue = request.getfixturevalue("catalogue")
        yield catalogue.vectors
        return
    server: MilvusServer = request.getfixturevalue("milvus")
    milvus = MilvusEngine(Settings(milvus_url=server.url, milvus_timeout_s=30), request.node.name[:8])
    for model_id in (MODEL, OTHER):
        milvus.clear((model_id, REGION))
    yield milvus
    milvus.close()


def ascending(labels: set[int]) -> I64:
    return np.array(sorted(labels), np.int64)


def rows_of(vectors: dict[int, F32], labels: I64) -> F32:
    return np.array([vectors[label] for label in labels.tolist()], np.float32).reshape(-1, DIM)


class Holder(Protocol):
    """Makes generations of a partition."""

    def begin(self) -> None:
        """Hold nothing."""

    def give(self, added: I64, removed: I64) -> None:
        """As an attempt does that may be killed afterwards."""

    def generation(self, held: I64, number: int) -> Holding:
        """What holds exactly ``held`` of what was given."""


class Files:
    def __init__(self, folder: Path, truth: dict[int, F32]) -> None:
        self.folder, self.truth = folder, truth

    def begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def give(self, added: I64, removed: I64) -> None:
        """Files that were not published hold nothing."""

    def generation(self, held: I64, number: int) -> Holding:
        manifest = build(
            self.folder,
            model_id=MODEL,
            region=REGION,
            labels=held,
            vectors=rows_of(self.truth, held),
            built_at=BUILT_AT,
            graph=GraphSettings(from_count=1000),
        )
        return open_generation(self.folder / manifest.name, model_id=MODEL, region=REGION, dim=DIM)


class Outside:
    def __init__(self, engine: Engine, history: dict[int, F32], gone: set[int]) -> None:
        self.engine, self.history, self.gone = engine, history, gone

    def begin(self) -> None:
        self.engine.clear(PLACE)

    def give(self, added: I64, removed: I64) -> None:
        self.engine.add(PLACE, added, rows_of(self.history, added))
        self.engine.remove(PLACE, removed)

    def generation(self, held: I64, number: int) -> Holding:
        assert self.engine.settle(PLACE, DIM) >= len(held)

        def vectors_of(labels: I64) -> tuple[I64, F32]:
            there = ascending(set(labels.tolist()) - self.gone)
            return there, rows_of(self.history, there)

        return OutsideGeneration(
            name=outside_name(number, self.engine.name),
            place=(MODEL, REGION, DIM),
            engine=self.engine,
            vectors_of=vectors_of,
            held=Allowed.of(held),
            count=len(held),
        )


class EngineMachine(RuleBasedStateMachine):
    """``truth`` is the catalogue. What an engine was given and no generation lists is not believed."""

    make: ClassVar[Callable[[EngineMachine], Holder]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="radir-engines-"))
        self.truth: dict[int, F32] = {}
        self.history: dict[int, F32] = {}
        self.gone: set[int] = set()
        self.partition = Partition(model_id=MODEL, region=REGION, dim=DIM)
        self.number = 0
        self.patches: list[Any] = [
            mock.patch("radir_pacs.index.outside.ROWS_PER_CANDIDATE", 0.001),  # the engine, however few there are
            mock.patch("radir_pacs.durable.sync"),
        ]
        for patch in self.patches:
            patch.start()
        self.holder = type(self).make(self)
        self.holder.begin()

    def teardown(self) -> None:
        for patch in self.patches:
            patch.stop()
        shutil.rmtree(self.folder)

    @initialize(vectors=st.lists(VECTOR, min_size=10, max_size=30))
    def begin(self, vectors: list[F32]) -> None:
        self.change(vectors, set())
        self.merge()

    @rule(vectors=st.lists(VECTOR, max_size=5), deleted=LABELS)
    def change(self, vectors: list[F32], deleted: set[int]) -> None:
        added = dict(enumerate(vectors, len(self.history)))
        self.history |= added
        deleted = {label for label in deleted if label in self.history}
        self.gone |= deleted
        for label, vector in added.items():
            self.truth[label] = vector
        for label in deleted:
            self.truth.pop(label, None)
        labels = ascending(set(added))
        self.partition.apply(labels=labels, vectors=rows_of(self.history, labels), deleted=ascending(deleted))

    @rule()
    def merge(self) -> None:
        """The engine gets everything, much of it once more, and the partition switches."""
        self.holder.give(ascending(set(self.truth)), ascending(self.gone))
        self.number += 1
        self.partition.swap(self.holder.generation(ascending(set(self.truth)), self.number))
        assert len(self.partition._snapshot.tail) == 0

    @precondition(lambda self: len(self.history) > 0)
    @rule(share=st.floats(0, 1))
    def killed_amid_a_merge(self, share: float) -> None:
        """It got some of the additions and none of the deletions; no generation lists them."""
        labels = sorted(self.truth)
        self.holder.give(np.array(labels[: int(share * len(labels))], np.int64), np.empty(0, np.int64))

    @rule(labels=LABELS)
    def somebody_adds_what_is_gone(self, labels: set[int]) -> None:
        """As an attempt does that lost its lease: what is gone stays gone."""
        self.holder.give(ascending(labels & self.gone), np.empty(0, np.int64))

    @rule()
    def reopen(self) -> None:
        """A new process: the generation, and what the catalogue has beside it."""
        generation = self.partition._snapshot.generation
        self.partition = Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)
        labels = ascending(set(self.truth))
        self.partition.apply(labels=labels, vectors=rows_of(self.truth, labels), deleted=ascending(self.gone))

    @rule(
        query=VECTOR,
        k=st.one_of(st.integers(1, 8), st.just(50)),
        allowed=ALLOWED,
        excluded=st.one_of(st.none(), LABELS),
    )
    def search(self, query: F32, k: int, allowed: set[int] | None, excluded: set[int] | None) -> None:
        selection = selecting(
            None if allowed is None else ascending(allowed), None if excluded is None else ascending(excluded)
        )
        may = (set(self.truth) if allowed is None else set(self.truth) & allowed) - (excluded or set())
        hits = self.partition.search(query, k, selection)
        assert self.partition.candidates(selection) == len(may)
        labels = ascending(set(self.truth))
        expected, scores = exact_search(rows_of(self.truth, labels), labels, query, k, ascending(may))
        assert hits.labels.tolist() == expected.tolist()
        assert hits.scores.tolist() == scores.tolist()
        everything, by_score = exact_search(rows_of(self.truth, labels), labels, query, len(labels) + 1)
        assert self.partition.scores(query, everything).tolist() == by_score.tolist()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.timeout(600)
def test_a_partition_answers_as_exact_search(name: str, request: pytest.FixtureRequest) -> None:
    engines = opened(name, request) if name != LOCAL else iter(())
    engine = next(engines, None)

    def make(machine: EngineMachine) -> Holder:
        if engine is None:
            return Files(partition_folder(machine.folder, MODEL, REGION), machine.truth)
        return Outside(engine, machine.history, machine.gone)

    class Machine(EngineMachine):
        pass

    Machine.make = make
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=EXAMPLES[name], stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_what_is_added_twice_stands_once(engine: Engine) -> None:
    vectors = random_vectors(20, DIM)
    labels = np.arange(20, dtype=np.int64)
    engine.add(PLACE, labels[:15], vectors[:15])
    engine.add(PLACE, labels[5:], vectors[5:])
    assert engine.settle(PLACE, DIM) == 20
    assert engine.labels(PLACE).tolist() == labels.tolist()
    engine.remove(PLACE, np.array([3, 4, 99], np.int64))
    engine.remove(PLACE, np.array([3, 4], np.int64))
    assert engine.settle(PLACE, DIM) == 18
    assert engine.holds(PLACE, np.array([3, 4, 5, 6, 99], np.int64)) == 2
    found = engine.nearest(PLACE, vectors[7], 5)
    assert found[0] == 7 and len(found) == 5 and not {3, 4} & set(found.tolist())


def test_models_and_regions_stand_apart(engine: Engine) -> None:
    vectors = random_vectors(12, DIM)
    labels = np.arange(12, dtype=np.int64)
    elsewhere = ((OTHER, REGION), (MODEL, "left_lung"))
    for place in elsewhere:
        engine.clear(place)
    engine.add(PLACE, labels[:6], vectors[:6])
    engine.add(elsewhere[0], labels[6:], vectors[6:])
    engine.add(elsewhere[1], labels[3:9], vectors[3:9])
    assert set(engine.nearest(PLACE, vectors[7], 20).tolist()) == set(range(6))
    assert set(engine.nearest(elsewhere[0], vectors[7], 20).tolist()) == set(range(6, 12))
    engine.clear(PLACE)
    assert engine.labels(PLACE).tolist() == []
    assert engine.labels(elsewhere[0]).tolist() == list(range(6, 12))
    assert engine.labels(elsewhere[1]).tolist() == list(range(3, 9))


def test_more_than_an_index_reads_at_once_is_named(engine: Engine) -> None:
    """Beyond ef_search, and from an index rather than the table."""
    count = 6_000 if engine.name == PGVECTOR else 1_500
    vectors = random_vectors(count, DIM)
    labels = np.arange(count, dtype=np.int64)
    engine.add(PLACE, labels, vectors)
    assert engine.settle(PLACE, DIM) == count
    assert len(engine.nearest(PLACE, vectors[0], 1_200)) == 1_200
    truth = set(exact_search(vectors, labels, vectors[0], 10)[0].tolist())
    assert len(truth & set(engine.nearest(PLACE, vectors[0], 64).tolist())) >= 9


def test_a_place_that_somebody_emptied_is_refused(engine: Engine, request: pytest.FixtureRequest) -> None:
    with pytest.raises(IndexRefused):
        engine.nearest(("nobody-0", REGION), random_vectors(1, DIM)[0], 5)
    assert engine.labels(("nobody-0", REGION)).tolist() == []
    assert engine.holds(("nobody-0", REGION), np.array([1], np.int64)) == 0
    engine.remove(("nobody-0", REGION), np.array([1], np.int64))
    engine.clear(("nobody-0", REGION))


def test_it_says_its_version(engine: Engine) -> None:
    assert engine.check().lower().startswith(engine.name)


def test_names_of_generations_say_whose_they_are() -> None:
    assert engine_of(outside_name(7, PGVECTOR)) == PGVECTOR
    assert engine_of(outside_name(7, MILVUS)) == MILVUS
    assert engine_of("00000007-3f0c6a2be1d4") == LOCAL
