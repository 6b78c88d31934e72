"""A partition: filters inside the search, deletions at once, changes and swaps under running searches."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from radir_pacs.index import Partition, exact_search, part, partition_folder, should_merge
from radir_pacs.index.tail import Tail
from radir_pacs.types import I64
from tests.index_material import (
    DIM,
    MODEL,
    REGION,
    WITHOUT_GRAPH,
    difference,
    labels_of,
    live,
    newest,
    opened,
    publish,
    random_vectors,
    selecting,
    sizes,
    unit,
)

COUNT = 4000


def ids(*labels: int) -> I64:
    return np.array(labels, np.int64)


def empty(dim: int = DIM) -> Partition:
    return Partition(model_id=MODEL, region=REGION, dim=dim)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("index")
    publish(home, random_vectors(COUNT))
    return home


@pytest.fixture
def partition(home: Path) -> Partition:
    generation = newest(partition_folder(home, MODEL, REGION))
    return Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)


def test_an_empty_partition_answers_nothing() -> None:
    hits = empty().search(random_vectors(1)[0], 5)
    assert (hits.labels.tolist(), hits.exact, hits.generation) == ([], True, None)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.05, 0.01])
def test_filters_leave_k_answers_that_exact_search_would_give(
    partition: Partition, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "ROWS_PER_CANDIDATE", 0.01)  # the graph wherever it can answer
    vectors, labels = random_vectors(COUNT), labels_of(COUNT)
    allowed = labels[np.random.default_rng(1).random(COUNT) < share]
    found = 0
    for query in random_vectors(20, seed=2):
        hits = partition.search(query, 10, selecting(allowed))
        truth, _ = exact_search(vectors, labels, query, 10, allowed)
        assert len(hits.labels) == 10
        assert not hits.exact
        assert np.isin(hits.labels, allowed).all()
        found += len(np.intersect1d(hits.labels, truth))
    assert found >= 0.98 * 200


def test_a_narrow_filter_is_searched_exactly(partition: Partition) -> None:
    allowed = labels_of(COUNT)[100:110]
    hits = partition.search(random_vectors(1, seed=2)[0], 20, selecting(allowed))
    assert hits.exact
    assert sorted(hits.labels.tolist()) == allowed.tolist()


@pytest.mark.parametrize("count", [189, 1000])  # the first fetch is 192: three left, and none
def test_excluding_the_nearest_fetches_on_until_k_are_left(
    partition: Partition, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "ROWS_PER_CANDIDATE", 0.01)
    query = random_vectors(1, seed=3)[0]
    nearest = partition.search(query, count).labels
    hits = partition.search(query, 10, selecting(barred=np.sort(nearest)))
    truth, _ = exact_search(random_vectors(COUNT), labels_of(COUNT), query, count + 10)
    assert len(hits.labels) == 10
    assert not hits.exact
    assert not np.isin(hits.labels, nearest).any()
    assert len(np.intersect1d(hits.labels, truth)) >= 9


@pytest.mark.parametrize("count", [1, 64, 65])  # up to 64 are looked for and left out, more are masked
@pytest.mark.parametrize("are_deleted", [False, True])
def test_what_is_hidden_takes_no_place_of_others(partition: Partition, count: int, are_deleted: bool) -> None:
    query = random_vectors(1, seed=4)[0]
    truth, scores = exact_search(random_vectors(COUNT), labels_of(COUNT), query, count + 10)
    nearest = np.sort(truth[:count])
    if are_deleted:
        partition.apply(deleted=nearest)
    hits = partition.search(query, 10, selecting(barred=ids() if are_deleted else nearest))
    assert hits.labels.tolist() == truth[count:].tolist()
    assert hits.scores.tolist() == scores[count:].tolist()
    assert len(partition.search(query, COUNT, selecting(barred=nearest)).labels) == COUNT - count


def test_more_is_asked_for_than_there_is(partition: Partition) -> None:
    assert len(partition.search(random_vectors(1)[0], COUNT * 2).labels) == COUNT


def test_a_graph_that_gives_too_few_is_replaced_by_exact_search(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "ROWS_PER_CANDIDATE", 0.01)
    monkeypatch.setattr("radir_pacs.index.graph.Graph.search", lambda *_: np.empty(0, np.intp))
    hits = partition.search(random_vectors(1)[0], 5)
    assert hits.exact
    assert len(hits.labels) == 5


def test_the_deleted_vanish_and_the_added_appear_at_once(partition: Partition) -> None:
    vectors = random_vectors(COUNT)
    assert partition.search(vectors[9], 1).labels.tolist() == [labels_of(COUNT)[9]]
    partition.apply(deleted=labels_of(COUNT)[9:10])
    assert labels_of(COUNT)[9] not in partition.search(vectors[9], 50).labels
    partition.apply(labels=ids(1), vectors=vectors[9:10])
    assert partition.search(vectors[9], 1).labels.tolist() == [1]
    assert (sizes(partition).tail, sizes(partition).deleted, sizes(partition).live) == (1, 1, COUNT)


def test_the_first_vectors_are_kept_as_they_are_and_stay_so() -> None:
    """A million of them are gigabytes: they are not copied, and what comes later is not written into them."""
    first, more = random_vectors(50), random_vectors(70, seed=1)
    was = first.copy()
    tail = Tail.empty(DIM).plus(np.arange(50), first)
    assert np.shares_memory(tail.rows()[1], first)
    later = tail.plus(np.arange(50, 120), more)
    assert np.array_equal(first, was) and np.array_equal(tail.rows()[1], was)
    assert np.array_equal(later.rows()[1], np.concatenate([was, more]))


def test_a_generation_built_before_a_deletion_does_not_bring_it_back(tmp_path: Path) -> None:
    vectors = random_vectors(10)
    partition = empty()
    partition.apply(labels=labels_of(10), vectors=vectors)
    stale = opened(publish(tmp_path, vectors, graph=WITHOUT_GRAPH))
    partition.apply(deleted=labels_of(10)[3:4])
    partition.swap(stale)
    assert labels_of(10)[3] not in partition.search(vectors[3], 10).labels
    assert (sizes(partition).generation, sizes(partition).tail, sizes(partition).deleted) == (10, 0, 1)


def test_an_older_generation_loses_nothing(tmp_path: Path) -> None:
    old = opened(publish(tmp_path, random_vectors(5), graph=WITHOUT_GRAPH))
    new = opened(publish(tmp_path, random_vectors(10), graph=WITHOUT_GRAPH))
    partition = Partition(model_id=MODEL, region=REGION, dim=DIM, generation=new)
    partition.swap(old)
    assert live(partition)[0].tolist() == labels_of(10).tolist()
    assert (sizes(partition).generation, sizes(partition).tail) == (5, 5)
    partition.swap(new)
    assert sizes(partition).tail == 0


def test_compare_finds_what_the_catalogue_has_otherwise() -> None:
    partition = empty()
    partition.apply(labels=ids(1, 2, 3), vectors=random_vectors(3))
    missing, gone = difference(partition, ids(2, 3, 9))
    assert (missing.tolist(), gone.tolist()) == ([9], [1])
    partition.apply(labels=missing, vectors=random_vectors(1), deleted=gone)
    assert live(partition)[0].tolist() == [2, 3, 9]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 2.0])
def test_what_cannot_be_searched_is_refused_and_changes_nothing(bad: float) -> None:
    partition, vectors = empty(), random_vectors(3)
    vectors[1] *= bad
    with pytest.raises(ValueError, match="unit length"):
        partition.apply(labels=ids(1, 2, 3), vectors=vectors)
    assert sizes(partition).live == 0
    with pytest.raises(ValueError, match="unit length"):
        partition.search(vectors[1], 1)


@pytest.mark.parametrize("labels", [[3, 2, 1], [1, 1, 2], [1, 2]])
def test_labels_that_do_not_ascend_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        empty().apply(labels=ids(*labels), vectors=random_vectors(3))
    if len(labels) == 3:
        with pytest.raises(ValueError, match="ascending"):
            selecting(barred=ids(*labels))


def test_vectors_and_generations_of_another_partition_are_refused(partition: Partition, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16"):
        partition.apply(labels=ids(1), vectors=random_vectors(1, dim=DIM + 1))
    with pytest.raises(ValueError, match="float32"):
        partition.search(random_vectors(1, dim=DIM + 1)[0], 1)
    other = opened(publish(tmp_path, random_vectors(3), region="lung", graph=WITHOUT_GRAPH), region="lung")
    with pytest.raises(ValueError, match="another partition"):
        partition.swap(other)


def test_searches_beside_changes_see_whole_states_only(tmp_path: Path) -> None:
    """Two equal vectors are added, deleted and merged in one change: no search may see one without the other."""
    target = unit([1.0] + [0.0] * (DIM - 1))
    others = random_vectors(500)
    generation = opened(publish(tmp_path, others))
    partition = Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)
    first_pair = 100_000
    done, seen = threading.Event(), {0: 0, 1: 0, 2: 0}

    def search() -> None:
        while not done.is_set():
            seen[int((partition.search(target, 5).labels >= first_pair).sum())] += 1

    readers = [threading.Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    turns = 0
    while turns < 100 or (min(seen[0], seen[2]) < 20 and turns < 5_000):
        pair = ids(first_pair + 2 * turns, first_pair + 2 * turns + 1)
        partition.apply(labels=pair, vectors=np.stack([target, target]))
        partition.swap(generation)
        partition.apply(deleted=pair)
        turns += 1
    done.set()
    for reader in readers:
        reader.join()
    assert seen[1] == 0
    assert min(seen[0], seen[2]) >= 20


@pytest.mark.parametrize(
    ("generation", "tail", "deleted", "due"),
    [(0, 0, 0, False), (0, 63, 0, False), (0, 64, 0, True), (10_000, 999, 999, False), (10_000, 1000, 0, True),
     (10_000, 0, 1000, True), (64, 0, 64, True)],
)  # fmt: skip
def test_a_merge_is_due_at_a_tenth(generation: int, tail: int, deleted: int, due: bool) -> None:
    assert should_merge(generation, tail, deleted) is due
