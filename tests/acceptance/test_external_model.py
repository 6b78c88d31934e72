"""A hospital's own encoder, by the commands that people type: imported, served, queried for an unknown region."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.cli import main
from tests.onnx_material import onnx_toy
from tests.services import need_module
from tests.stack import running_stack

need_module("onnxruntime")


def test_an_imported_network_answers_for_the_whole_chest(
    hospital: tuple[Path, list[dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, bundle = tmp_path / "net.onnx", tmp_path / "bundle"
    model.write_bytes(onnx_toy().SerializeToString())
    words = ["models", "import", str(model), "--kind", "cxr", "--name", "ours", "--out", str(bundle), "--json"]
    assert main(words) == 0
    model_id = json.loads(capsys.readouterr().out)["model_id"]
    folder, studies = hospital
    radiographs = [study for study in studies if study["kind"] == "CXR"][:3]
    with running_stack(tmp_path / "home", models=str(bundle)) as stack:
        stack.json("send", *(str(folder / file) for study in radiographs for file in study["files"]))
        assert stack.wait_until_done(len(radiographs))["studies"] == {"INDEXED": len(radiographs)}
        answer = stack.json("similar", radiographs[0]["study_uid"], "--region", "heart", "--same-patient")
        (listed,) = stack.json("models", "list")
        card = stack.radir("models", "show", model_id).stdout
    assert answer["model"] == model_id and len(answer["cases"]) == 2
    assert (answer["region_asked"], answer["region_answered"]) == ("heart", "chest")
    assert listed["model_id"] == model_id and listed["answers"] is True
    assert card.startswith(f"# {model_id}\n")
