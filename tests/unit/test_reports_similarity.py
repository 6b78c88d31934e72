"""Relevance: symmetric, 1 for equal reports, bounded across polarity, undefined for silence; tables agree with it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radir_pacs import anatomy
from radir_pacs.reports import Item, ItemSimilarity, mine, report_similarity, similarity_items
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.pairs import region_items, top_lists, write_table
from radir_pacs.reports.similarity import FLIP
from tests.examples import examples

SIMILARITY = ItemSimilarity()
CONCEPTS = ["opacity", "nodule", "pneumonia", "pleural_effusion", "cardiomegaly", "abnormality", "fracture", "catheter"]
REGIONS = ["lungs", "left_lung", "left_lower_lobe", "right_pleura", "heart", "chest", "ribs"]
items = st.builds(
    Item,
    concept=st.sampled_from(CONCEPTS),
    region=st.sampled_from(REGIONS),
    present=st.booleans(),
    severity=st.integers(-1, 3),
    certain=st.booleans(),
)
item_sets = st.lists(items, min_size=1, max_size=5).map(tuple)


@given(items, items)
def test_items_are_symmetric_and_bounded(a: Item, b: Item) -> None:
    value = SIMILARITY.items(a, b)
    assert 0 <= value <= 1
    assert value == pytest.approx(SIMILARITY.items(b, a))
    assert SIMILARITY.items(a, a) == pytest.approx(1)
    if a.present != b.present:
        assert value <= FLIP


@given(items, st.integers(0, 3))
def test_similarity_falls_with_the_distance_in_severity(item: Item, severity: int) -> None:
    own = item._replace(present=True, severity=severity)
    others = sorted(range(4), key=lambda other: abs(other - severity))
    values = [SIMILARITY.items(own, own._replace(severity=other)) for other in others]
    assert all(near >= far for near, far in pairwise(values))
    assert values[0] > values[-1]


@given(item_sets, item_sets)
def test_sets_are_symmetric_and_one_on_themselves(a: tuple[Item, ...], b: tuple[Item, ...]) -> None:
    score = SIMILARITY.score(a, b)
    assert score is not None and 0 <= score <= 1
    assert score == pytest.approx(SIMILARITY.score(b, a))
    assert SIMILARITY.score(a, a) == pytest.approx(1)


@given(st.lists(items, min_size=1, max_size=8))
def test_the_matrix_is_the_definition(listed: list[Item]) -> None:
    matrix = SIMILARITY.matrix(listed)
    for i, a in enumerate(listed):
        for j, b in enumerate(listed):
            assert matrix[i, j] == pytest.approx(SIMILARITY.items(a, b), abs=1e-6)


@given(st.sampled_from(sorted(load().concepts)), st.sampled_from(sorted(load().concepts)))
def test_only_a_concept_itself_is_wholly_like_it(a: str, b: str) -> None:
    value = SIMILARITY.concepts(a, b)
    assert 0 <= value <= 1
    assert value == SIMILARITY.concepts(b, a)
    assert (value == 1) == (a == b)


def test_examples_order_as_a_radiologist_would() -> None:
    def score(a: str, b: str, region: str) -> float:
        value = report_similarity(mine(a), mine(b), region)
        assert value is not None
        return value

    effusion = "Moderate left pleural effusion."
    assert score(effusion, "Moderate left pleural effusion.", "pleura") == pytest.approx(1)
    assert (
        score(effusion, "Severe left pleural effusion.", "pleura")
        > score(effusion, "Trace left pleural effusion.", "pleura") - 1e-9
    )
    assert score(effusion, "Left pleural effusion.", "pleura") > score(effusion, "Right pleural effusion.", "pleura")
    assert score(effusion, "Right pleural effusion.", "pleura") > score(effusion, "No pleural effusion.", "pleura")
    assert score("Pneumonia.", "Consolidation.", "lungs") > score("Pneumonia.", "Emphysema.", "lungs")


def test_silence_is_undefined_not_a_number() -> None:
    assert report_similarity(mine("Heart is enlarged."), mine("Clear lungs."), "heart") is None
    assert report_similarity(mine(""), mine("Clear lungs.")) is None


TEXTS = [
    "Small left effusion. Heart is enlarged.",
    "",
    "No effusion. Lungs are clear.",
    "Large left effusion. Nodule in the right upper lobe.",
    "Small left effusion. Heart is enlarged.",
    "\0 nothing to see \x07",
    "Right lower lobe pneumonia. Normal heart.",
    "Bibasilar atelectasis; no pneumothorax.",
]


@settings(max_examples=examples(20), deadline=None)
@given(st.permutations(TEXTS))
def test_a_parent_contains_its_child_and_rows_stay_aligned(texts: list[str]) -> None:
    reports = [similarity_items(mine(text)) for text in texts]
    for region in {key for report in reports for key in report}:
        group = region_items(region, reports)
        for position, report in enumerate(group.reports):
            assert group.sets[group.set_of[position]] == reports[report][region]
        for above in anatomy.ancestors(region):
            assert set(group.reports) <= set(region_items(above.key, reports).reports)


@pytest.mark.parametrize("region", ["chest", "pleura"])
def test_tables_and_top_lists_agree_with_the_definition(tmp_path: Path, region: str) -> None:
    reports = [similarity_items(mine(text)) for text in TEXTS]
    group = region_items(region, reports)
    write_table(group, SIMILARITY, tmp_path / "t.npy", block=2)
    table = np.load(tmp_path / "t.npy")
    for i, a in enumerate(group.reports):
        for j, b in enumerate(group.reports):
            score = SIMILARITY.score(reports[a][region], reports[b][region])
            assert score is not None and abs(int(table[i, j]) - 100 * score) <= 0.51
    row_of = {int(report): row for row, report in enumerate(group.reports)}
    lists = {report: (others, scores) for report, others, scores in top_lists(group, SIMILARITY, 3, block=2)}
    assert set(lists) == set(row_of)
    for report, (others, scores) in lists.items():
        row = np.delete(table[row_of[report]], row_of[report])
        assert report not in others
        assert list(scores) == sorted(row, reverse=True)[:3]
        assert [table[row_of[report], row_of[int(other)]] for other in others] == list(scores)


def test_a_table_cut_short_goes_on_and_one_of_other_items_starts_anew(tmp_path: Path) -> None:
    reports = [similarity_items(mine(text)) for text in TEXTS]
    group = region_items("chest", reports)
    whole = tmp_path / "whole.npy"
    write_table(group, SIMILARITY, whole, block=2)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise Stop

    cut = tmp_path / "cut.npy"
    with pytest.raises(Stop):
        write_table(group, SIMILARITY, cut, block=2, progress=stop)
    assert not cut.exists()
    assert json.loads(cut.with_suffix(".part.json").read_text())["done"] == 1
    steps: list[int] = []
    write_table(group, SIMILARITY, cut, block=2, progress=lambda done, total: steps.append(done))
    assert np.array_equal(np.load(cut), np.load(whole))
    fewer = region_items("chest", reports[:4])
    cut.with_suffix(".part").write_bytes(whole.read_bytes())
    cut.with_suffix(".part.json").write_text(json.dumps({"fingerprint": "other", "done": 99}))
    write_table(fewer, SIMILARITY, cut, block=2)
    assert len(np.load(cut)) == len(fewer.reports)
