"""A killed training resumes and ends with the same weights; two processes train one network."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from radir_pacs.encode import Bundle
from radir_pacs.errors import BadInput
from radir_training.learning.checkpoints import NAME, Checkpoints
from radir_training.learning.train import Step, Training, train
from tests.training.long_training import EXACT, RECIPE, STUDIES
from tests.training.toy import TOY, fingerprint, folder_of, toy_set

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_after_kill_9_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = toy_set(STUDIES, seed=2)
    words = [sys.executable, "-m", "tests.training.long_training", str(tmp_path)]
    killed_after = random.Random().randint(1, 16)
    with subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == killed_after:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL and (tmp_path / NAME).exists()
    steps: list[Step] = []
    checkpoints = Checkpoints(tmp_path)
    resumed = train(TOY, data, RECIPE, checkpoints=checkpoints, tell=steps.append)
    assert killed_after <= steps[0].number <= killed_after + 2, "it resumes, it does not start again"
    assert resumed.training["steps"] == 18
    assert fingerprint(resumed) == fingerprint(train(TOY, data, RECIPE)), f"killed after step {killed_after}"


def test_another_training_does_not_go_on_from_it(tmp_path: Path) -> None:
    data, recipe = toy_set(32, seed=2), replace(RECIPE, epochs=1)
    checkpoints = Checkpoints(tmp_path / "work")
    checkpoints.notes["seen"] = [1, 2]
    train(TOY, data, recipe, checkpoints=checkpoints)
    again = Checkpoints(tmp_path / "work")
    again.resume(Training(TOY, data, recipe))
    assert again.notes == {"seen": [1, 2]}
    others = {
        r"recipe\.learning_rate was 0\.001 and is 0\.002": Training(TOY, data, replace(recipe, learning_rate=2e-3)),
        "data was": Training(TOY, toy_set(32, seed=3), recipe),
        "network.blocks was 1 and is 2": Training(replace(TOY, blocks=2), data, recipe),
    }
    for said, other in others.items():
        with pytest.raises(BadInput, match=said):
            again.resume(other)
    again.path.write_bytes(again.path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="cannot be read"):
        again.resume(Training(TOY, data, recipe))
    again.remove()
    assert not (tmp_path / "work").exists()


def test_the_clock_of_a_limited_training_goes_on(tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    data, recipe = toy_set(32, seed=2), replace(RECIPE, minutes=1.0, epochs=100)
    training = Training(TOY, data, recipe, clock=clock)
    training.step(0.0)
    now[0] = 40.0
    checkpoints = Checkpoints(tmp_path)
    checkpoints.keep(training, now=True)
    later = Training(TOY, data, recipe, clock=clock)
    checkpoints.resume(later)
    assert later.number == 1 and 40 / 60 < later.done() < 50 / 60


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *words, "-m", "tests.training.long_training", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2))
    assert first["processes"] == 2
    assert first["weights"] == second["weights"]
    assert sum(first["losses"][-6:]) < sum(first["losses"][:6])
    alone: list[float] = []
    recipe = replace(RECIPE, **EXACT)
    train(TOY, toy_set(STUDIES, seed=2), recipe, tell=lambda step: alone.append(step.losses["findings"]))
    assert first["losses"] == pytest.approx(alone, rel=0.02), "as one process trains it, up to rounding"


def test_torchrun_runs_the_command_itself(tmp_path: Path) -> None:
    """One bundle comes out of two processes that share a folder of pictures."""
    folder, out = folder_of(toy_set(64, seed=4), tmp_path / "hospital"), tmp_path / "model"
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "radir_pacs.cli", "train"]
    words += ["--kind", "cxr", "--data", str(folder), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    words += ["--epochs", "1", "--batch", "16", "--threads", "1", "--device", "cpu", "--augment", "off", "--json"]
    ended = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=280
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    (answer,) = ended.stdout.splitlines()
    bundle = Bundle.load(out)
    assert json.loads(answer)["model_id"] == bundle.model_id
    assert bundle.training["images"] == 51 and bundle.training["steps"] == 3
