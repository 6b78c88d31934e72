"""The open partitions of a process: none holds up another, the memory for them has a bound, what changed is in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.index import open_generation
from radir_pacs.query import Searcher
from radir_pacs.query import partitions as module
from radir_pacs.query.partitions import Partitions
from radir_pacs.similar_cases import Filters, Query
from radir_pacs.types import ImageKind, JobKind
from radir_workers.index_partition import IndexPartition
from tests.catalogue_material import (
    DIM,
    MODEL,
    REGIONS,
    TESTER,
    add,
    claimed,
    encoded,
    encoding,
    header,
    register,
    serve_model,
)

SHADOW = "cxr-shadow-1"

COUNT = 12
SlowOpening = tuple[threading.Event, threading.Event]


@pytest.fixture
def archive(catalogue: Catalogue) -> Catalogue:
    register(catalogue)
    for study in range(1, COUNT + 1):
        encoded(catalogue, study)
    return catalogue


@pytest.fixture
def built(archive: Catalogue, settings: Settings) -> Callable[[str], str]:
    def build(region: str) -> str:
        IndexPartition(archive, settings.home)(claimed(archive, JobKind.INDEX, f"{MODEL}/{region}"))
        published = archive.generations.published(MODEL, region)
        assert published is not None
        return published.name

    return build


@pytest.fixture
def slow_opening(monkeypatch: pytest.MonkeyPatch) -> SlowOpening:
    """(opening, go_on): opening files sets the one and waits for the other."""
    opening, go_on = threading.Event(), threading.Event()
    really = open_generation

    def slow(*arguments: Any, **named: Any) -> Any:
        opening.set()
        assert go_on.wait(60)
        return really(*arguments, **named)

    monkeypatch.setattr(module, "open_generation", slow)
    return opening, go_on


def test_a_partition_that_opens_holds_up_no_other(
    archive: Catalogue, settings: Settings, built: Callable[[str], str], slow_opening: SlowOpening
) -> None:
    built("chest")
    opening, go_on = slow_opening
    partitions = Partitions(archive, settings)
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(partitions.fresh(MODEL, "chest", dim=DIM).count))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert opening.wait(60)
    assert partitions.fresh(MODEL, "left_lung", dim=DIM).count == COUNT, "answered while the other one opens"
    assert counts == []
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert counts == [COUNT, COUNT]


def test_a_newer_generation_opens_while_the_one_before_answers(
    archive: Catalogue, settings: Settings, built: Callable[[str], str], slow_opening: SlowOpening
) -> None:
    first = built("chest")
    opening, go_on = slow_opening
    go_on.set()
    searcher = Searcher(archive, settings)
    query = Query(study_uid="2.25.1", region="chest", limit=COUNT)
    before = searcher.similar(query, TESTER)
    assert before.generation == first
    second = built("chest")
    opening.clear()
    go_on.clear()
    thread = threading.Thread(target=searcher.similar, args=(query, TESTER))
    thread.start()
    assert opening.wait(60)
    encoded(archive, COUNT + 1)
    archive.studies.delete("2.25.2")
    meanwhile = searcher.similar(query, TESTER)
    assert meanwhile.generation == first
    shown = {case.study.study_uid for case in meanwhile.cases}
    assert f"2.25.{COUNT + 1}" in shown and "2.25.2" not in shown
    go_on.set()
    thread.join(60)
    after = searcher.similar(query, TESTER)
    assert after.generation == second
    assert [case.study.study_uid for case in after.cases] == [case.study.study_uid for case in meanwhile.cases]


def test_who_waits_for_an_opening_gets_what_was_committed_before(
    archive: Catalogue, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who opens may have read before it."""
    partitions = Partitions(archive, settings)
    really, has_read, go_on = archive.encodings.changes, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        found = really(*arguments)
        if not has_read.is_set():
            has_read.set()
            assert go_on.wait(60)
        return found

    monkeypatch.setattr(archive.encodings, "changes", slow)
    first = threading.Thread(target=partitions.fresh, args=(MODEL, "chest"), kwargs={"dim": DIM})
    first.start()
    assert has_read.wait(60)
    encoded(archive, COUNT + 1)
    counts: list[int] = []
    second = threading.Thread(target=lambda: counts.append(partitions.fresh(MODEL, "chest", dim=DIM).count))
    entry, waits = partitions._open[MODEL, "chest"], threading.Event()
    held = entry.opening

    @contextmanager
    def noticed() -> Iterator[None]:
        waits.set()
        with held:
            yield

    monkeypatch.setattr(entry, "opening", noticed())
    second.start()
    assert waits.wait(60)
    go_on.set()
    for thread in (first, second):
        thread.join(60)
    assert counts == [COUNT + 1]


def test_partitions_leave_by_least_use_when_the_memory_is_used_up(archive: Catalogue, settings: Settings) -> None:
    partitions = Partitions(archive, replace(settings, index_memory_mib=0))
    for region in (*REGIONS, REGIONS[0]):
        assert partitions.fresh(MODEL, region, dim=DIM).count == COUNT, "one that left opens again"
        assert list(partitions.readings({region}).partitions) == [(MODEL, region)]
    assert not partitions.readings({REGIONS[1]}).partitions

    roomy = Partitions(archive, settings)
    for region in REGIONS:
        roomy.fresh(MODEL, region, dim=DIM)
    assert all(roomy.readings({region}).partitions for region in REGIONS)


def test_what_a_retired_model_had_open_leaves_the_memory(archive: Catalogue, settings: Settings) -> None:
    partitions = Partitions(archive, settings)
    partitions.fresh(MODEL, "chest", dim=DIM)
    partitions.cases(MODEL, is_fresh=False)
    partitions.check(lambda _: None)
    assert partitions.readings({"chest"}).cases and partitions.readings({"chest"}).partitions, "it answers"
    serve_model(archive, "its-successor", ImageKind.CXR, DIM, {})
    partitions.check(lambda _: None)
    assert not partitions.readings({"chest"}).cases and not partitions.readings({"chest"}).partitions


def test_what_changed_nothing_leaves_everything_as_it_is(archive: Catalogue, settings: Settings) -> None:
    """A question without news makes no new snapshot, so that whatever hangs on it stays."""
    searcher = Searcher(archive, settings)
    query = Query(study_uid="2.25.1", region="chest")
    searcher.similar(query, TESTER)
    partition = searcher._partitions.fresh(MODEL, "chest", dim=DIM)
    snapshot = partition._snapshot
    searcher.similar(query, TESTER)
    assert partition._snapshot is snapshot
    encoded(archive, COUNT + 1)
    searcher.similar(query, TESTER)
    assert partition._snapshot is not snapshot


def test_who_read_before_what_was_pruned_starts_again(archive: Catalogue, settings: Settings) -> None:
    """A region that nobody asked for in a month: what went meanwhile is in no feed any more."""
    searcher = Searcher(archive, settings)
    query = Query(study_uid="2.25.1", region="chest", limit=COUNT, filters=Filters(sexes=frozenset({"F"})))
    plain = Query(study_uid="2.25.1", region="chest", limit=COUNT)
    assert searcher.similar(query, TESTER).cases == () and len(searcher.similar(plain, TESTER).cases) == COUNT - 1
    encoded(archive, COUNT + 1, patient_sex="F")
    archive.studies.delete("2.25.2")
    add(archive, header(3, 1, 2, patient_sex="F"))
    archive.generations.prune(gone_keep_s=-1, generation_keep_s=1e6)
    answer = searcher.similar(plain, TESTER)
    assert answer.more == 0 and "2.25.2" not in {case.study.study_uid for case in answer.cases}
    assert {case.study.study_uid for case in searcher.similar(query, TESTER).cases} == {f"2.25.{COUNT + 1}", "2.25.3"}


def test_what_is_asked_unseen_takes_no_room_from_what_is_asked(archive: Catalogue, settings: Settings) -> None:
    archive.models.register(SHADOW, ImageKind.CXR, DIM, {}, by="test", reason="test")
    for study in range(1, COUNT + 1):
        archive.encodings.save(encoding(study, 100 + study, SHADOW), revision=1)
    partitions = Partitions(archive, replace(settings, index_memory_mib=0))
    asked = REGIONS[0]
    partitions.fresh(MODEL, asked, dim=DIM)
    partitions.answers(SHADOW, unseen=True)
    for region in REGIONS:
        assert partitions.fresh(SHADOW, region, dim=DIM).count == COUNT, "it answers all the same"
        partitions.cases(SHADOW, is_fresh=False)
        assert list(partitions.readings({asked}).partitions) == [(MODEL, asked)]
    partitions.answers(SHADOW, unseen=False)  # promoted
    partitions.fresh(SHADOW, asked, dim=DIM)
    assert list(partitions.readings({asked}).partitions) == [(SHADOW, asked)]
