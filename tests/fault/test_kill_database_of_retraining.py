"""kill -9 of Postgres as each step of a retraining begins, amid the training, and before the end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from radir_pacs.catalogue import start_embedded
from radir_pacs.types import StepState
from radir_training.retraining.pipeline import Pipeline
from radir_training.retraining.steps import STEPS, StepName
from tests.training.retraining_material import begin, embedded_archive

KILLS = {*((step, "begins") for step in STEPS), (StepName.TRAIN, "does"), (STEPS[-1], "done")}


def kill(home: Path) -> None:
    """The server as a crash would end it; another one starts at once, as `radir up` starts it."""
    server = int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(server, signal.SIGKILL)
    start_embedded(home)


def test_a_database_killed_at_every_step_costs_no_step(tmp_path: Path) -> None:
    left = set(KILLS)
    with embedded_archive(tmp_path) as (settings, catalogue, _):

        def hook(step: StepName, event: str) -> None:
            if (step, event) in left:
                left.remove((step, event))
                kill(settings.home)

        number = begin(catalogue)
        assert Pipeline(catalogue, settings, number, worker="test", hook=hook).work() == "DONE"
        steps = catalogue.retraining.steps(number)
    assert not left
    assert {step.state for step in steps} == {StepState.DONE}
    assert {step.attempts for step in steps} == {1}
