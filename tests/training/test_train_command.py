"""``radir train`` from the command line: a bundle comes out, wrong wishes are refused in words."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from radir_pacs.encode import Bundle
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind
from radir_training import command


def parsed(*words: str) -> argparse.Namespace:
    root = argparse.ArgumentParser()
    command.register(root.add_subparsers())
    return root.parse_args(["train", *words])


def test_a_bundle_comes_out_and_drawn_patients_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, cache = tmp_path / "model", tmp_path / "cache"
    words = ("--kind", "cxr", "--patients", "25", "--epochs", "1", "--batch", "16", "--seed", "3", "--threads", "1")
    args = parsed(*words, "--out", str(out), "--cache", str(cache), "--json")
    assert args.run(args, None) == 0
    answer = json.loads(capsys.readouterr().out)
    bundle = Bundle.load(out)
    assert bundle.kind is ImageKind.CXR and answer["model_id"] == bundle.model_id
    assert bundle.metrics["measured_on"]["patients"] == 5
    assert "seed 3, numbers 0 to 19" in bundle.training["data"]
    (shard,) = cache.rglob("*.npz")
    drawn = shard.stat().st_mtime_ns
    args = parsed(*words, "--out", str(tmp_path / "again"), "--cache", str(cache))
    assert args.run(args, None) == 0
    assert bundle.model_id in capsys.readouterr().out, "the same seed makes the same model"
    assert shard.stat().st_mtime_ns == drawn, "patients are not drawn twice"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--config", "huge"), "not one of tiny, small, base"),
        (("--patients", "3"), "at least 20 patients"),
        (("--epochs", "0"), "1 epoch"),
        (("--minutes", "nan"), "at least"),
    ],
)
def test_wrong_wishes_are_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    args = parsed("--kind", "ct", "--out", str(tmp_path / "model"), *words)
    with pytest.raises(BadInput, match=said):
        args.run(args, None)
    assert not (tmp_path / "model").exists()
