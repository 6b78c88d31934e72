"""A whole network retrained from pixels, and a head of CT by the command, each through all steps of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.encode import Bundle
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.tokens import encoder_id
from radir_pacs.models import Registry
from radir_pacs.storage import open_blobs
from radir_pacs.types import ImageKind, StepState
from radir_training.retraining import folder as files
from radir_training.retraining.folder import run_folder
from radir_training.retraining.gates import GateCode
from radir_training.retraining.pipeline import Pipeline
from radir_training.retraining.plan import Plan
from radir_training.retraining.steps import STEPS
from tests.services import need_module

from .program_material import bundle_of_a_map
from .retraining_material import PLAN, begin, fill_archive, toy_champion, toy_ct_set, toy_set

STUDIES = 200
TOLD = PLAN.as_json() | {"pictures": False}


@pytest.fixture
def archive(settings: Settings) -> Settings:
    """The same patients are held out whenever this runs."""
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "pseudonym.key").write_bytes(bytes(range(32)))
    return settings


def test_a_whole_network_goes_through_all_steps(archive: Settings, catalogue: Catalogue, tmp_path: Path) -> None:
    champion = toy_champion(tmp_path / "champion")
    Registry(catalogue, archive).adopt([tmp_path / "champion"])
    data = toy_set(STUDIES, 2)
    fill_archive(catalogue, champion, data, data.reports, open_blobs(archive))
    plan = Plan.from_json(TOLD | {"depth": "full", "recipe": TOLD["recipe"] | {"epochs": 2}})
    number = begin(catalogue, plan)
    assert Pipeline(catalogue, archive, number, worker="test").work() == "DONE"
    steps, folder = catalogue.retraining.steps(number), run_folder(archive, number)
    assert [step.name for step in steps] == list(STEPS) and {step.state for step in steps} == {StepState.DONE}
    told = files.read(folder / files.EVIDENCE)
    assert told["description_of_modifications"]["what_changes"] == "all weights"
    assert told["modification_protocol"]["data"]["studies"] == STUDIES, "every picture was read"
    made = Bundle.load(folder / files.CHALLENGER)
    assert encoder_id(made) != encoder_id(champion) and made.training["depth"] == "full"
    assert told["impact_assessment"]["examination"]["overall"]["queries"] > 0
    assert not (folder / files.WORK).exists(), "its inputs were made of patients' pixels"


def test_the_head_of_a_ct_model_is_retrained_by_the_command(
    archive: Settings,
    catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    champion = toy_champion(tmp_path / "champion", kind=ImageKind.CT)
    Registry(catalogue, archive).adopt([tmp_path / "champion"])
    data = toy_ct_set(STUDIES, 2)
    fill_archive(catalogue, champion, data, data.reports)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        "pictures = false\n[data]\nleast_studies = 100\nleast_patients = 50\nleast_held_out_patients = 20\n"
        "[recipe]\nepochs = 4\nbatch = 48\nlearning_rate = 0.004\n"
        "[gates]\nleast_queries = 8\nk = 3\nmost_latency = 10.0\n"
    )
    for name, value in to_environment(archive).items():
        monkeypatch.setenv(name, value)
    code = main(["retrain", "--kind", "ct", "--depth", "head", "--plan", str(plan), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["state"]) == ("CT", "DONE"), told
    assert code == (0 if told["passed"] else 1), "its gates judge; whether it learned enough is no matter here"
    assert {gate["code"] for gate in told["gates"]} == set(GateCode)
    made = Bundle.load(run_folder(archive, told["id"]) / files.CHALLENGER)
    assert made.kind is ImageKind.CT and encoder_id(made) == encoder_id(champion)
    serving = catalogue.models.serving(ImageKind.CT)
    assert serving is not None and serving.model_id == champion.model_id


def test_a_head_over_features_of_a_program_from_elsewhere_is_retrained(
    archive: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    need_module("onnx")
    folder = bundle_of_a_map(tmp_path, studies=64, epochs=1)
    Registry(catalogue, archive).adopt([folder])
    champion, data = Bundle.load(folder), toy_set(STUDIES, 2)
    fill_archive(catalogue, champion, data, data.reports)
    plan = Plan.from_json(TOLD | {"recipe": TOLD["recipe"] | {"epochs": 2}})
    number = begin(catalogue, plan)
    assert Pipeline(catalogue, archive, number, worker="test").work() == "DONE"
    made = Bundle.load(run_folder(archive, number) / files.CHALLENGER)
    assert made.model_id != champion.model_id and encoder_id(made) == encoder_id(champion), "tokens stay what they are"
    assert isinstance(made.network, RadirNetwork) and made.network.program is not None
    told = files.read(run_folder(archive, number) / files.EVIDENCE)
    assert told["impact_assessment"]["examination"]["overall"]["queries"] > 0
