"""A model says which patients it was trained on, and an evaluation heeds it, without anybody being named."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from radir_pacs.encode import Bundle
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind
from radir_training.commands import compare as compare_command
from radir_training.commands import evaluate as evaluate_command
from radir_training.data.people import KNOWN_PATIENTS, KnownPatients
from radir_training.data.studies import LOCAL
from radir_training.evaluation.known_patients import unseen_rows
from radir_training.evaluation.models import Model
from tests.model_material import seeded_bundle
from tests.training.toy import folder_of, toy_set

PEOPLE = [f"patient {number}" for number in range(60)]


def test_a_filter_knows_its_own_and_one_stranger_in_a_hundred() -> None:
    names = [f"HOSPITAL\\{number:07}" for number in range(2_000)]
    known = KnownPatients.of([*names, *names])
    again = KnownPatients.from_json(json.loads(json.dumps(known.as_json())))
    assert again is not None and again == known == KnownPatients.of(names[::-1])
    assert all(name in again for name in names) and f" {names[0]} " in again
    taken = sum(f"HOSPITAL\\{number:07}" in again for number in range(10_000, 20_000))
    assert 50 < taken < 150 and known.false_positives == pytest.approx(0.01, abs=0.003)
    assert len(json.dumps(known.as_json())) < 2 * len(names) + 200
    assert "HOSPITAL" not in json.dumps(known.as_json())
    assert KnownPatients.of(names[1:]).salt != known.salt


@pytest.mark.parametrize(
    "told", [None, "x", {}, {"salt": "x"}, {"salt": "x", "bits": "ä"}, {"salt": 1, "bits": "AA=="}]
)
def test_a_manifest_that_holds_something_else_is_no_filter(told: object) -> None:
    assert KnownPatients.from_json(told) is None


def test_a_patient_under_two_names_is_left_out_whole() -> None:
    model = Model(name="mine", bundles={ImageKind.CXR: trained_on("b")}, files={})
    rows = unseen_rows([model], ("a", "b", "c"), np.array([0, 0, 1]))
    assert rows.tolist() == [False, False, True]


def trained_on(*names: str) -> Bundle:
    training = {"source": LOCAL} | ({KNOWN_PATIENTS: [KnownPatients.of(names).as_json()]} if names else {})
    return Bundle(**{**vars(seeded_bundle(ImageKind.CXR)), "training": training})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(toy_set(len(PEOPLE), seed=0), tmp_path / "hospital")


def run(folder: Path, command: str, *words: str) -> int:
    root = argparse.ArgumentParser()
    subparsers = root.add_subparsers()
    for module in (compare_command, evaluate_command):
        module.register(subparsers)
    common = ("--data", str(folder), "--kind", "cxr", "--cache", str(folder.parent / "cache"), "--json")
    args = root.parse_args([command, *words, *common])
    code: int = args.run(args, None)
    return code


def test_a_known_folder_is_warned_of_and_judged_by_the_rest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on(*PEOPLE[:48]).save(tmp_path / "model")
    mine = f"mine={tmp_path / 'model'}"
    assert run(folder, "evaluate", mine) == 0
    told = capsys.readouterr()
    assert "warning: mine was trained on about 4" in told.err and "of these 60 patients" in told.err
    assert json.loads(told.out)["kinds"]["CXR"]["patients"] == 60
    assert run(folder, "evaluate", mine, "--held-out") == 0
    told = capsys.readouterr()
    assert "warning" not in told.err and "held out: 1" in told.err and "patient 5" not in told.err
    answer = json.loads(told.out)
    assert 10 <= answer["kinds"]["CXR"]["patients"] <= 12 and answer["held_out"] is True


def test_a_comparison_is_held_out_from_all_models_and_cuts_vectors_to_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on(*PEOPLE[:10]).save(tmp_path / "one")
    trained_on(*PEOPLE[5:15]).save(tmp_path / "two")
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", image=vectors, kind="CXR")
    models = [str(tmp_path / name) for name in ("one", "two", "vectors.npz")]
    assert run(folder, "compare", *models, "--regions", "heart", "--held-out") == 0
    answer = json.loads(capsys.readouterr().out)
    assert 43 <= answer["data"]["CXR"]["patients"] <= 45 and answer["held_out"] is True


def test_a_stranger_is_not_warned_of(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained_on(*(f"somebody {number}" for number in range(500))).save(tmp_path / "model")
    assert run(folder, "evaluate", str(tmp_path / "model")) == 0
    assert "warning" not in capsys.readouterr().err


def test_what_cannot_be_told_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained_on().save(tmp_path / "old")
    assert run(folder, "evaluate", str(tmp_path / "old")) == 0
    assert "does not say which patients" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no model says which patients"):
        run(folder, "evaluate", str(tmp_path / "old"), "--held-out")
    trained_on(*PEOPLE).save(tmp_path / "all")
    with pytest.raises(BadInput, match="leaves no two patients"):
        run(folder, "evaluate", str(tmp_path / "all"), "--held-out")
