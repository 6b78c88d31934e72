"""``radir train`` from the command line: it writes a bundle, and refuses wrong requests with a reason."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from radir_pacs.encode import CONFIGS, Bundle, NetworkConfig
from radir_pacs.errors import BadInput
from radir_training.commands import train as command
from radir_training.data.people import KnownPatients
from radir_training.learning import memory
from radir_training.learning.checkpoints import Checkpoints
from radir_training.learning.recipe import OURS
from radir_training.learning.train import Training
from radir_training.runs import session
from tests.training.toy import TOY, folder_of, toy_set


@pytest.fixture(autouse=True)
def toy_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "toy", TOY)
    torch.set_num_threads(1)


def parsed(*words: str) -> argparse.Namespace:
    root = argparse.ArgumentParser()
    command.register(root.add_subparsers())
    return root.parse_args(["train", "--kind", "cxr", "--config", "toy", "--threads", "1", "--device", "cpu", *words])


def test_a_folder_of_images_and_reports_becomes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = folder_of(toy_set(80, seed=0), tmp_path / "hospital"), tmp_path / "model"
    words = ("--data", str(folder), "--cache", str(tmp_path / "cache"), "--epochs", "2", "--batch", "16")
    args = parsed(*words, "--out", str(out), "--json")
    assert args.run(args, None) == 0
    answer = json.loads(capsys.readouterr().out)
    bundle = Bundle.load(out)
    assert bundle.model_id == answer["model_id"] and bundle.metrics["measured_on"]["patients"] == 16
    assert bundle.training["images"] == 64 and "hospital" not in json.dumps(bundle.training)
    (told,) = bundle.training["known_patients"]
    known = KnownPatients.from_json(told)
    assert known is not None and 64 <= sum(f"patient {number}" in known for number in range(80)) <= 68
    assert {"recall_at_5_abnormal", "recall_at_5_abnormal_pixels"} <= bundle.metrics.keys()
    assert not (out / ".checkpoint").exists(), "a training that is over leaves no checkpoint"
    curves = out.with_name("model.curves")
    for name in ("loss.png", "recall.png"):
        assert np.asarray(Image.open(curves / name)).std() > 5
    events = EventAccumulator(str(curves)).Reload()
    assert [point.step for point in events.Scalars("loss/findings")] == list(range(1, 9))
    args = parsed(*words, "--out", str(tmp_path / "further"), "--start", str(out))
    assert args.run(args, None) == 0
    further = Bundle.load(tmp_path / "further")
    assert further.training["began_with"] == bundle.model_id != further.model_id
    assert "synthetic_only" not in further.training
    assert further.training["recipe"]["learning_rate"] == command.GENTLE
    assert further.training["recipe"]["augment"]
    assert further.training["known_patients"] == [told, told], "what the first training saw is known to the second"


def test_synthetic_patients_are_measured_by_their_truth_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_set(160, seed=0)
    monkeypatch.setattr(session, "phantom_set", lambda *_args, **_wishes: replace(data, true=data.said))
    words = ("--patients", "160", "--epochs", "1", "--recipe", "repaired", "--stages", "published", "--batch", "16")
    args = parsed(*words, "--out", str(tmp_path / "model"))
    assert args.run(args, None) == 0
    bundle = Bundle.load(tmp_path / "model")
    assert isinstance(bundle.network.config, NetworkConfig)
    assert not bundle.network.config.centred_head, "as published"
    assert bundle.metrics["recall_at_5_abnormal"] == bundle.metrics["recall_at_5_abnormal_true"]
    assert "160 of seed 1" in bundle.training["data"]
    assert not bundle.training["recipe"]["augment"], "synthetic patients vary enough by themselves"
    assert bundle.training["synthetic_only"] is True
    args = parsed(*words, "--out", str(tmp_path / "further"), "--start", str(tmp_path / "model"))
    assert args.run(args, None) == 0
    assert Bundle.load(tmp_path / "further").training["synthetic_only"] is True
    assert command._recipe(parsed("--augment", "on", "--out", str(tmp_path / "varied"))).augment


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        ((), "joint"),
        (("--recipe", "published"), "joint"),
        (("--recipe", "published-staged"), "published"),
        (("--recipe", "published-staged", "--stages", "joint"), "joint"),
        (("--recipe", "published", "--stages", "published"), "published"),
    ],
)
def test_stages_are_the_recipes_own_unless_named(words: tuple[str, ...], stages: str) -> None:
    assert command._recipe(parsed("--out", "model", *words)).stages == stages


def test_an_interrupted_command_goes_on_and_ends_as_one_that_ran_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_set(80, seed=0)
    monkeypatch.setattr(session, "phantom_set", lambda *_args, **_wishes: data)
    words = ("--patients", "80", "--epochs", "2", "--batch", "16", "--checkpoint-minutes", "0")
    out = tmp_path / "model"
    keep, steps = Checkpoints.keep, []

    def cut_off(self: Checkpoints, training: Training, *, now: bool) -> None:
        keep(self, training, now=now)
        steps.append(training.number)
        if len(steps) == 5:
            raise KeyboardInterrupt

    args = parsed(*words, "--out", str(out))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "keep", cut_off)
        args.run(args, None)
    changed = parsed(*words, "--out", str(out), "--batch", "32")
    with pytest.raises(BadInput, match=r"recipe\.batch was 16 and is 32.*--fresh"):
        changed.run(changed, None)
    assert args.run(args, None) == 0
    through = parsed(*words, "--out", str(tmp_path / "through"))
    assert through.run(through, None) == 0
    weights = [Bundle.load(folder).network.state_dict() for folder in (out, tmp_path / "through")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    events = EventAccumulator(str(out.with_name("model.curves"))).Reload()
    assert [point.step for point in events.Scalars("loss/findings")] == list(range(1, 9)), "no gap, nothing twice"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--config", "huge"), "not one of tiny, small, base"),
        (("--recipe", "secret"), "not one of ours"),
        (("--patients", "3"), "at least 20 patients"),
        (("--epochs", "0"), "--epochs must be at least 1"),
        (("--accumulate", "0"), "--accumulate must be at least 1"),
        (("--minutes", "nan"), "number of minutes"),
        (("--learning-rate", "-1"), "between 0 and 1"),
        (("--device", "abacus"), "not one of auto, cpu, cuda"),
        (("--recipe", "unconditional", "--stages", "published"), "nothing to learn"),
        (("--data", "/nowhere/at/all"), "there is no folder"),
        (("--data", "/nowhere/at/all", "--patients", "40"), "cannot be used with --data"),
    ],
)
def test_wrong_wishes_are_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    args = parsed("--out", str(tmp_path / "model"), *words)
    with pytest.raises(BadInput, match=said):
        args.run(args, None)
    assert not (tmp_path / "model").exists()


def test_a_finished_bundle_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by giving the same command twice, nor by one that continues its training."""
    monkeypatch.setattr(session, "phantom_set", lambda *_args, **_wishes: toy_set(40, seed=0))
    words = ("--patients", "40", "--epochs", "1", "--batch", "16")
    out, other = str(tmp_path / "model"), str(tmp_path / "other")
    first = parsed(*words, "--out", out)
    assert first.run(first, None) == 0
    kept = Bundle.load(tmp_path / "model").model_id
    refused = {
        "holds a finished bundle": ("--out", out),
        "the bundle that --start continues": ("--out", out, "--start", out, "--replace"),
        "has the size 'toy', which --config cannot change": ("--out", other, "--start", out, "--config", "small"),
    }
    for said, more in refused.items():
        args = parsed(*words, *more)
        with pytest.raises(BadInput, match=said):
            args.run(args, None)
    assert Bundle.load(tmp_path / "model").model_id == kept
    args = parsed(*words, "--seed", "2", "--out", out, "--replace")
    assert args.run(args, None) == 0
    assert Bundle.load(tmp_path / "model").model_id != kept
    (tmp_path / "file").touch()
    args = parsed(*words, "--out", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="is a file"):
        args.run(args, None)


def test_data_that_teach_nothing_are_refused_in_one_line(tmp_path: Path) -> None:
    data = toy_set(40, seed=0)
    folders = {
        "has no CXR image to read": data.subset(np.arange(0)),
        "too few patients": replace(data, patients=np.zeros(40, np.int64)),
        "40 × .* one flat shade": replace(data, images=np.zeros_like(data.images)),
        "no report has a statement that was understood": replace(data, reports=("",) * 40),
        "no report has a finding": replace(data, reports=("The heart is normal in size.",) * 40),
        "do not fill a batch": data,
    }
    for number, (said, spoilt) in enumerate(folders.items()):
        folder = folder_of(spoilt, tmp_path / str(number))
        words = ("--data", str(folder), "--cache", str(tmp_path / "cache"), "--batch", "64")
        args = parsed(*words, "--out", str(tmp_path / "model"))
        with pytest.raises(BadInput, match=said) as refused:
            args.run(args, None)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "model").exists()


def test_memory_is_estimated_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_set(64, seed=0)

    def need(batch: int = 32, **changed: Any) -> memory.Need:
        return memory.need(Training(TOY, data, replace(OURS, batch=batch, **changed)))

    whole, parts, small = need(), need(accumulate=4), need(batch=8)
    assert whole.images == 32 and parts.images == 8
    assert whole.activations > 2 * parts.activations and whole.weights == parts.weights
    assert small.total < whole.total
    parameters = sum(p.nbytes for p in Training(TOY, data, replace(OURS, batch=32)).network.parameters())
    assert whole.weights == 5 * parameters
    tokens = 8 * 8 * TOY.width * 4
    assert whole.activations > 32 * tokens * 4, "at least what each block reads and writes"
    monkeypatch.setattr(session, "phantom_set", lambda *_args, **_wishes: data)
    monkeypatch.setattr(memory, "free_bytes", lambda device: whole.total // 2)
    args = parsed("--patients", "64", "--batch", "32", "--out", str(tmp_path / "model"))
    with pytest.raises(BadInput, match=r"needs about .* GB are free: use a smaller --batch, or .*--accumulate \d"):
        args.run(args, None)
    assert not (tmp_path / "model").exists()
