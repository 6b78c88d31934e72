"""``radir models``: listed, shown and taken in from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.cli import main
from radir_pacs.encode import Bundle
from radir_pacs.encode.folder import manifest_hash
from radir_pacs.types import ImageKind
from tests.model_material import seeded_bundle
from tests.onnx_material import onnx_toy
from tests.services import need_module

need_module("onnxruntime")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of an installation that does not run."""
    monkeypatch.delenv("RADIR_DATABASE_URL", raising=False)
    return ["--home", str(tmp_path / "home"), "--models", str(tmp_path / "model")]


def test_a_bundle_is_listed_and_its_card_shown(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_id = seeded_bundle(ImageKind.CT).save(tmp_path / "model").model_id
    assert main(["models", "list", "--json", *home]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["model_id"] == model_id and row["answers"] is False and row["problem"] is None
    for wanted in (model_id, str(tmp_path / "model")):
        assert main(["models", "show", wanted, *home]) == 0
        assert capsys.readouterr().out.startswith(f"# {model_id}\n")
    assert main(["models", "show", model_id, "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["training"] == {"data": "none", "licence": "none"}
    assert main(["models", "show", "ct-none-00000000", *home]) == 1
    assert "no model or bundle" in capsys.readouterr().err


def test_what_a_manifest_says_is_printed_and_not_obeyed(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeded_bundle(ImageKind.CT).save(tmp_path / "model")
    file = tmp_path / "model" / "manifest.json"
    hostile = json.loads(file.read_text()) | {"kind": "[/red]\x1b[2JCT", "metrics": ["collapsed"]}
    file.write_text(json.dumps(hostile | {"manifest_sha256": manifest_hash(hostile)}))
    assert main(["models", "list", *home]) == 0
    shown = capsys.readouterr().out
    assert "[/red]" in shown and "CT" in shown and "\x1b[2J" not in shown


def test_a_collapsed_model_is_listed_as_such(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"recall_at_5_abnormal": {"recall": 0.1, "collapsed": True}}
    replace(seeded_bundle(ImageKind.CT), metrics=measured).save(tmp_path / "model")
    assert main(["models", "list", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)[0]["collapsed"] is True
    assert main(["models", "list", *home]) == 0
    assert "it has collapsed" in " ".join(capsys.readouterr().out.split())


def test_a_bundle_that_cannot_be_served_is_listed_with_its_reason(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list", *home]) == 1
    assert "manifest.json cannot be read" in capsys.readouterr().out


def test_an_onnx_file_is_taken_in_with_what_the_command_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, said = tmp_path / "net.onnx", tmp_path / "net.json"
    file.write_bytes(onnx_toy(2, shape=(64, 48)).SerializeToString())
    manifest: dict[str, Any] = {
        "regions": ["chest", "heart"],
        "preprocessing": {"shape": [64, 48], "clip": [1, 99]},
        "training": {"data": "our archive", "licence": "unknown"},
        "metrics": {"recall_at_5": 0.5},
    }
    said.write_text(json.dumps(manifest))
    words = ["models", "import", str(file), "--kind", "cxr", "--name", "Net 2", "--out", str(tmp_path / "model")]
    assert main([*words, "--manifest", str(said), "--licence", "CC0", "--threads", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    bundle = Bundle.load(tmp_path / "model")
    assert answer["model_id"] == bundle.model_id and bundle.model_id.startswith("cxr-net2-")
    assert [region.key for region in bundle.regions] == ["chest", "heart"]
    assert bundle.training["licence"] == "CC0" and bundle.training["data"] == "our archive"
    assert bundle.metrics == {"recall_at_5": 0.5} and bundle.preprocessing.shape == (64, 48)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--regions", "chest,haert"), "unknown region"),
        (("--slowest-s", "nan"), "--slowest-s"),
        (("--preprocessing", "huge"), "huge"),
        (("--manifest", "not.json"), "not a JSON object"),
        (("--regions", "heart"), "leave out 'chest'"),
        ((), "takes images of"),
    ],
)
def test_wrong_wishes_are_refused_in_one_line(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("not.json").write_text("[]")
    Path("net.onnx").write_bytes(onnx_toy(shape=(64, 64)).SerializeToString())
    assert main(["models", "import", "net.onnx", "--kind", "cxr", "--name", "net", "--out", "model", *words]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("error: ") == 1 and not Path("model").exists()
