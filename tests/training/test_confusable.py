"""The examination by confusable conditions: what it draws, how it counts, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from radir_pacs import anatomy
from radir_pacs.cli import main
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.errors import BadInput
from radir_pacs.reports.lexicon import load
from radir_pacs.types import ImageKind
from radir_training.evaluation.confusable import (
    CANNOT,
    MEASURES,
    PAIRS,
    RANKINGS,
    REGION,
    Pair,
    drawn,
    examined,
    judge,
    table,
)
from radir_training.phantoms.findings import CATALOGUE, side_of
from radir_training.phantoms.findings import place as placed
from radir_training.phantoms.statements import true_items
from tests.model_material import seeded_bundle

PATIENTS = np.array([0, 0, 1, 1, 2, 2])


def test_a_ranking_by_the_condition_is_perfect_and_its_opposite_never_right() -> None:
    condition = np.arange(6) % 2
    alike = (condition[:, None] == condition[None]).astype(np.float32)
    assert judge(alike, PATIENTS).tolist() == [[1.0, 1.0]] * 6
    assert judge(1 - alike, PATIENTS).tolist() == [[0.0, 0.0]] * 6


def test_a_ranking_by_the_patient_alone_scores_as_chance() -> None:
    body = np.array([0.0, 0.0, 0.3, 0.3, 0.9, 0.9], np.float32)
    assert judge(-np.abs(body[:, None] - body[None]), PATIENTS).tolist() == [[0.5, 0.5]] * 6


def test_the_own_other_image_is_no_candidate() -> None:
    scores = np.where(PATIENTS[:, None] == PATIENTS[None], 9.0, 0.0).astype(np.float32)
    assert judge(scores, PATIENTS).tolist() == [[0.5, 0.5]] * 6


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_conditions_are_two_of_the_lexicon_within_what_the_region_shows(pair: Pair) -> None:
    concepts = set()
    for condition in pair.both:
        assert condition.place in CATALOGUE[condition.concept].regions
        finding = placed(condition.concept, condition.place, 2, np.random.default_rng(0))
        [item] = {item for said in true_items((finding,), ImageKind.CXR).values() for item in said if item.present}
        assert item.concept in load().concepts
        concepts.add(item.concept)
        sides = {side_of(condition.place), side_of(pair.region)}
        assert sides != {-1, 1}, "asked on the other side"
    assert len(concepts) == 2 and anatomy.region(pair.region)


def test_the_two_images_of_a_patient_differ_where_the_conditions_lie() -> None:
    bundle = seeded_bundle(ImageKind.CXR)
    data = drawn(PAIRS[2], bundle, seed=3, patients=2)
    assert data.patients.tolist() == [0, 0, 1, 1] and data.images.shape[2:] == bundle.preprocessing.shape
    one, other = data.images[0, 0].astype(float), data.images[1, 0].astype(float)
    apart = np.abs(one - other)
    height, width = apart.shape
    right_base = apart[height // 2 :, : width // 2].mean()
    assert right_base > 4 * apart[: height // 3, width // 2 :].mean(), "the left apex is the same lung"
    assert np.array_equal(data.images, drawn(PAIRS[2], bundle, seed=3, patients=2).images)


def test_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeded_bundle(ImageKind.CXR).save(tmp_path / "model")
    command = ["evaluate", str(tmp_path / "model"), "--exam", "confusable", "--phantoms", "2", "--seed", "4", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["pairs"]) == {pair.name for pair in PAIRS} and found["cannot"] == CANNOT
    for figures in found["pairs"].values():
        assert figures["queries"] == 4 and set(RANKINGS) <= set(figures)
        assert all(0 <= figures[name][measure]["value"] <= 1 for name in RANKINGS for measure in MEASURES)
    assert len(table(found)) == 2 + len(PAIRS) * len(MEASURES)


def test_the_starter_tells_conditions_apart_that_it_was_trained_on() -> None:
    bundle = Bundle.load(default_bundles()[ImageKind.CXR])
    figures = examined(bundle, seeds=(5,), patients=6, pairs=PAIRS[1:2])["pairs"][PAIRS[1].name]
    assert figures["knows"] and figures[REGION][MEASURES[1]]["value"] > 0.6


@pytest.mark.parametrize(
    "wrong", [["--data", "x"], ["--html", "page.html", "--phantoms", "2"], [], ["--phantoms", "1"]], ids=str
)
def test_what_it_does_not_take_is_refused(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeded_bundle(ImageKind.CXR).save(tmp_path / "model")
    assert main(["evaluate", str(tmp_path / "model"), "--exam", "confusable", *wrong]) != 0
    assert "error" in capsys.readouterr().err


def test_a_bundle_of_ct_is_refused() -> None:
    with pytest.raises(BadInput, match="radiographs"):
        examined(seeded_bundle(ImageKind.CT), seeds=(1,), patients=2)
