"""Measures of retrieval against their definitions, spelled out query by query."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radir_training.data.statements import UNDEFINED
from radir_training.evaluation.measures import KS, MEASURES, SAME, Question, lines, ranked, score

RECALL, NDCG, RATE = range(3)


def by_definition(relevance: list[int], scores: list[float], matches: list[bool], k: int) -> list[float]:
    """[Recall@k, NDCG@k, RateScore@k] of one query."""
    gallery = [j for j, s in enumerate(relevance) if s != UNDEFINED]
    order = sorted(gallery, key=lambda j: (-scores[j], j))[:k]
    ideal = sorted((relevance[j] / 100 for j in gallery), reverse=True)[:k]
    oracle = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ideal))
    dcg = sum(relevance[j] / 100 / math.log2(rank + 2) for rank, j in enumerate(order))
    return [
        float(any(matches[j] for j in order)) if any(matches[j] for j in gallery) else math.nan,
        dcg / oracle if oracle else math.nan,
        sum(relevance[j] / 100 for j in order) / len(order) if order else math.nan,
    ]


def drawn(seed: int, queries: int, gallery: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    relevance = rng.choice([0, 30, 89, 90, 91, 100, UNDEFINED], (queries, gallery)).astype(np.uint8)
    scores = rng.choice([-0.5, -0.0, 0.0, 0.25, 0.5, 0.9], (queries, gallery)).astype(np.float32)  # many ties
    return relevance, scores


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), queries=st.integers(1, 5), gallery=st.integers(1, 140))
def test_measures_are_what_their_definitions_say(seed: int, queries: int, gallery: int) -> None:
    relevance, scores = drawn(seed, queries, gallery)
    question = Question.by_relevance(relevance)
    found = score(question, scores)
    assert found.shape == (queries, len(MEASURES), len(KS))
    for q in range(queries):
        matches = [int(s) > SAME and s != UNDEFINED for s in relevance[q]]
        for at, k in enumerate(KS):
            expected = by_definition(relevance[q].tolist(), (scores[q] + 0).tolist(), matches, k)
            np.testing.assert_allclose(found[q, :, at], expected, rtol=1e-9, err_msg=f"k={k}")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), gallery=st.integers(1, 140))
def test_nothing_beats_the_perfect_order_and_it_is_reached(seed: int, gallery: int) -> None:
    relevance, scores = drawn(seed, 4, gallery)
    question = Question.by_relevance(relevance)
    oracle = lines(question).oracle
    reached = score(question, np.where(relevance == UNDEFINED, 0, relevance).astype(np.float32))
    np.testing.assert_allclose(reached, oracle, rtol=1e-9)
    found = score(question, scores)
    assert (np.isnan(found) == np.isnan(oracle)).all()
    assert (np.nan_to_num(found) <= np.nan_to_num(oracle) + 1e-12).all()


def test_the_random_line_is_the_mean_over_all_orders() -> None:
    relevance = np.array([[100, 20, 0, 95, 60, UNDEFINED]], np.uint8)
    question = Question.by_relevance(relevance)
    every = [score(question, np.array([[*order, 9]], np.float32)) for order in permutations(range(5))]
    np.testing.assert_allclose(lines(question).random, np.mean(every, axis=0), rtol=1e-9)


def test_in_a_large_gallery_the_random_recall_is_one_minus_the_misses() -> None:
    relevance = np.zeros((1, 50_000), np.uint8)
    relevance[0, :5000] = 100
    found = lines(Question.by_relevance(relevance)).random[0, RECALL]
    np.testing.assert_allclose(found, [1 - 0.9**k for k in KS], rtol=2e-3)


def test_only_more_than_nine_tenths_is_a_match_and_silence_is_none() -> None:
    question = Question.by_relevance(np.array([[90, 91, UNDEFINED]], np.uint8))
    assert question.matches.tolist() == [[False, True, False]]
    assert score(question, np.array([[0.9, 0.1, 1.0]], np.float32))[0, RECALL].tolist() == [0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("relevance", [[UNDEFINED, UNDEFINED], [0, 0]])
def test_a_query_without_a_gallery_or_a_match_is_no_query(relevance: list[int]) -> None:
    question = Question.by_relevance(np.array([relevance], np.uint8))
    found = score(question, np.array([[0.2, 0.1]], np.float32))
    assert np.isnan(found[0, RECALL]).all() and np.isnan(found[0, NDCG]).all()
    assert np.isnan(found[0, RATE]).all() == (relevance[0] == UNDEFINED)


def test_equal_scores_keep_the_order_of_the_gallery_and_the_excluded_come_last() -> None:
    relevance = np.array([[0, UNDEFINED, 0, 0]], np.uint8)
    scores = np.array([[0.5, 0.9, 0.7, 0.5]], np.float32)
    assert ranked(scores, relevance).tolist() == [[2, 0, 3, 1]]
    assert ranked(scores, relevance, 2).tolist() == [[2, 0]]
    assert ranked(-scores, relevance).tolist() == [[0, 3, 2, 1]]
