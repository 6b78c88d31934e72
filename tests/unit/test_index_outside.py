"""A generation held outside, over an engine that says what it likes: no answer is wrong for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest

from radir_pacs.errors import EngineAway, EngineEmptied
from radir_pacs.index import Allowed, Hits, Partition, Selection, exact_search
from radir_pacs.index.engine import PGVECTOR, Engine, outside_name
from radir_pacs.index.outside import OutsideGeneration
from radir_pacs.types import F32, I64, PartitionKey
from tests.index_material import DIM, MODEL, REGION, labels_of, random_vectors, selecting

COUNT, K = 1_000, 10
LABELS, VECTORS = labels_of(COUNT), random_vectors(COUNT)
QUERY = random_vectors(1, seed=1)[0]


@dataclass
class Sayer:
    """Names what it is told to, and notes how many it was asked for."""

    says: I64 | EngineAway
    asked: list[int] = field(default_factory=list)
    name: str = PGVECTOR

    def nearest(self, place: PartitionKey, query: F32, count: int) -> I64:
        self.asked.append(count)
        if isinstance(self.says, EngineAway):
            raise self.says
        return self.says[:count]


def partition_over(engine: Sayer, gone: frozenset[int] = frozenset()) -> Partition:
    """``gone``: encodings that the catalogue has no more, of which the partition was not told yet."""

    def vectors_of(labels: I64) -> tuple[I64, F32]:
        there = np.array([label for label in labels.tolist() if label not in gone], np.int64)
        return there, VECTORS[np.searchsorted(LABELS, there)]

    generation = OutsideGeneration(
        name=outside_name(1, PGVECTOR),
        place=(MODEL, REGION, DIM),
        engine=cast("Engine", engine),
        vectors_of=vectors_of,
        held=Allowed.of(LABELS),
        count=COUNT,
    )
    return Partition(model_id=MODEL, region=REGION, dim=DIM, generation=generation)


def best(allowed: I64 = LABELS) -> list[int]:
    found: list[int] = exact_search(VECTORS, LABELS, QUERY, K, allowed)[0].tolist()
    return found


def by_score() -> I64:
    return exact_search(VECTORS, LABELS, QUERY, COUNT)[0]


def test_candidates_in_any_order_are_scored_here() -> None:
    named = np.random.default_rng(0).permutation(by_score()[:40])
    hits = partition_over(Sayer(named)).search(QUERY, K)
    assert hits.labels.tolist() == best() and not hits.exact


@pytest.mark.parametrize("named", [np.arange(5) + 10**9, by_score()[: K - 1]], ids=["strange", "too few"])
def test_where_an_engine_names_too_few_all_are_searched(named: I64) -> None:
    hits = partition_over(Sayer(named)).search(QUERY, K)
    assert hits.labels.tolist() == best() and hits.exact


def test_an_engine_that_names_nothing_was_emptied() -> None:
    with pytest.raises(EngineEmptied) as refused:
        partition_over(Sayer(np.empty(0, np.int64))).search(QUERY, K)
    assert refused.value.place == (MODEL, REGION)


def test_what_is_deleted_or_barred_is_passed_over_though_named() -> None:
    partition = partition_over(Sayer(by_score()))
    deleted, barred = np.sort(by_score()[:3]), np.sort(by_score()[3:5])
    partition.apply(deleted=deleted)
    left = np.setdiff1d(LABELS, np.concatenate([deleted, barred]))
    hits = partition.search(QUERY, K, selecting(barred=barred))
    assert hits.labels.tolist() == best(left)
    assert partition.candidates(selecting(barred=barred)) == COUNT - 5 == len(left)


def test_what_went_from_the_catalogue_this_instant_is_not_returned() -> None:
    gone = frozenset(by_score()[:2].tolist())
    hits = partition_over(Sayer(by_score()), gone).search(QUERY, K)
    assert hits.labels.tolist() == best(np.array([label for label in LABELS if label not in gone], np.int64))
    assert np.isnan(partition_over(Sayer(by_score()), gone).scores(QUERY, by_score()[:3])).tolist() == [
        True,
        True,
        False,
    ]


def test_a_wide_filter_asks_for_more_and_a_narrow_one_does_not_ask() -> None:
    engine = Sayer(by_score())
    partition = partition_over(engine)
    half = LABELS[::2]
    assert partition.search(QUERY, K, selecting(half)).labels.tolist() == best(half)
    assert engine.asked and engine.asked[-1] >= 2 * K
    engine.asked.clear()
    few = LABELS[::100]
    hits = partition.search(QUERY, K, selecting(few))
    assert hits.labels.tolist() == best(few) and hits.exact and not engine.asked


def test_an_engine_that_is_away_is_said_where_it_is_needed() -> None:
    partition = partition_over(Sayer(EngineAway()))

    def search(allowed: I64 | None) -> Hits:
        return partition.search(QUERY, K, Selection() if allowed is None else selecting(allowed))

    with pytest.raises(EngineAway):
        search(None)
    assert search(LABELS[::100]).labels.tolist() == best(LABELS[::100])


def test_the_tail_answers_beside_it() -> None:
    partition = partition_over(Sayer(by_score()))
    new = np.array([int(LABELS[-1]) + 5], np.int64)
    partition.apply(labels=new, vectors=QUERY[np.newaxis])
    hits = partition.search(QUERY, K)
    assert hits.labels.tolist() == [int(new[0]), *best()[: K - 1]]
    assert len(partition._snapshot.tail) == 1
    partition.apply(labels=LABELS, vectors=VECTORS)
    assert len(partition._snapshot.tail) == 1, "what the engine holds is known"
