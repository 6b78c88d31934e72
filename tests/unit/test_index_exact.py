"""Exact search is the oracle for everything else, so it is checked against plain arithmetic here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radir_pacs.index.exact import best, cosines, cosines_of_rows, exact_search
from radir_pacs.index.label_set import contains
from tests.index_material import labels_of, random_vectors, unit

COMPONENT = st.integers(-2, 2)
ROW = st.lists(COMPONENT, min_size=4, max_size=4).filter(any)


@given(st.lists(ROW, max_size=30), ROW, st.integers(1, 12), st.one_of(st.none(), st.sets(st.integers(0, 120))))
def test_it_is_the_sorted_list_of_cosines(
    rows: list[list[int]], query: list[int], k: int, allowed: set[int] | None
) -> None:
    vectors = unit(np.array(rows, np.float32).reshape(-1, 4))
    labels = labels_of(len(rows))
    wanted = None if allowed is None else np.array(sorted(allowed), np.int64)
    found, scores = exact_search(vectors, labels, unit(query), k, wanted)

    by_hand = {
        int(label): sum(a * b for a, b in zip(row, query, strict=True)) / math.hypot(*row) / math.hypot(*query)
        for label, row in zip(labels, rows, strict=True)
        if allowed is None or int(label) in allowed
    }
    assert len(found) == min(k, len(by_hand))
    assert np.allclose(scores, sorted(by_hand.values(), reverse=True)[:k], atol=1e-5)
    assert np.allclose(scores, [by_hand[int(label)] for label in found], atol=1e-5)
    order = [(-score, label) for score, label in zip(scores.tolist(), found.tolist(), strict=True)]
    assert order == sorted(order)


def test_equal_vectors_are_true_ties_and_the_lower_label_wins() -> None:
    vectors = np.tile(random_vectors(1, dim=256), (5000, 1))
    labels, scores = exact_search(vectors, labels_of(5000), random_vectors(1, dim=256, seed=1)[0], 7)
    assert labels.tolist() == labels_of(7).tolist()
    assert len(set(scores.tolist())) == 1


@pytest.mark.parametrize("share", [0.01, 0.1, 0.6])
def test_a_score_is_the_same_to_the_bit_by_every_path(share: float) -> None:
    vectors, query = random_vectors(20_000, dim=96), random_vectors(1, dim=96, seed=1)[0]
    rows = np.flatnonzero(np.random.default_rng(2).random(len(vectors)) < share)
    assert np.array_equal(cosines_of_rows(vectors, rows, query), cosines(vectors, query)[rows])
    assert np.array_equal(cosines(vectors[rows], query), cosines(vectors, query)[rows])


def test_scores_stay_cosines() -> None:
    vectors = random_vectors(1000, dim=256)
    assert max(float(cosines(vectors, row).max()) for row in vectors[:100]) <= 1.0


def test_best_refuses_no_answers() -> None:
    with pytest.raises(ValueError, match="k is at least 1"):
        best(labels_of(1), np.ones(1, np.float32), 0)


@given(st.sets(st.integers(-5, 20)), st.lists(st.integers(-5, 20)))
def test_contains_is_membership(members: set[int], values: list[int]) -> None:
    found = contains(np.array(sorted(members), np.int64), np.array(values, np.int64))
    assert found.tolist() == [value in members for value in values]
