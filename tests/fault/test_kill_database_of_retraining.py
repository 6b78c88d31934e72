"""kill -9 of Postgres as each step of a retraining begins, amid the training, and before the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, start_embedded, stop_embedded
from radir_pacs.models import Registry
from radir_pacs.types import StepState
from radir_training.retraining.pipeline import Pipeline
from radir_training.retraining.steps import STEPS, StepName
from tests.training.retraining_material import STUDIES, begin, fill_archive, toy_champion, toy_set


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[config.Settings]:
    home = tmp_path / "home"
    champion = toy_champion(tmp_path / "champion")
    settings = config.Settings(home=home, models=(str(tmp_path / "champion"),), device="cpu", torch_threads=1)
    home.mkdir()
    start_embedded(home)
    try:
        with Catalogue.open(settings) as catalogue:
            Registry(catalogue, settings).adopt()
            data = toy_set(STUDIES, 2)
            fill_archive(catalogue, champion, data, list(data.reports))
        yield settings
    finally:
        stop_embedded(home)


KILLS = {*((step, "begins") for step in STEPS), (StepName.TRAIN, "does"), (STEPS[-1], "done")}


def kill(home: Path) -> None:
    """The server as a crash would end it; another one starts at once, as `radir up` starts it."""
    server = int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(server, signal.SIGKILL)
    start_embedded(home)


def test_a_database_killed_at_every_step_costs_no_step(archive: config.Settings) -> None:
    left = set(KILLS)

    def hook(step: StepName, event: str) -> None:
        if (step, event) in left:
            left.remove((step, event))
            kill(archive.home)

    with Catalogue.open(archive) as catalogue:
        number = begin(catalogue)
        assert Pipeline(catalogue, archive, number, worker="test", hook=hook).work() == "DONE"
        steps = catalogue.retraining.steps(number)
    assert not left
    assert {step.state for step in steps} == {StepState.DONE}
    assert {step.attempts for step in steps} == {1}
