"""kill -9 of trainer, worker and Postgres while a model is retrained, and while it encodes the archive.

Then it is promoted and rolled back while a client asks.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.encode import Bundle, Encoder
from radir_pacs.encode.tokens import encoder_id
from radir_pacs.errors import NotReady, StorageFailed
from radir_pacs.models import Registry
from radir_pacs.models.bundles import bundle_folder
from radir_pacs.models.run_files import RunFiles
from radir_pacs.types import ImageKind, ModelState, StepState
from radir_training.retraining.steps import StepName
from tests.stack import Stack, running_stack
from tests.training.retraining_material import PLAN, STUDIES, embedded_archive

pytestmark = pytest.mark.timeout(1200)
LIMIT_S = 400.0  # a trainer yields to everything else (nice 10), also to the tests beside this one
ASKED = 20  # questions whose answers before a promotion and after a rollback are compared
ASKED_EVERY_S = 0.02  # not as fast as it can: the index that is waited for is built beside it
SETTINGS = {"job_lease_s": "3", "job_max_attempts": "50", "reencode_per_minute": "2400"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """An archive that a toy champion has encoded, and everything that `radir up` starts over it."""
    with embedded_archive(tmp_path) as (settings, catalogue, champion):
        encoder, name = Encoder(champion, device="cpu"), encoder_id(champion)
        assert name is not None
        kept = catalogue.image_tokens.of(name, [f"2.25.{study}" for study in range(1, STUDIES + 1)])
        for tokens, found in zip(kept, encoder.encode_batch(kept), strict=True):
            assert not isinstance(found, Exception)
            catalogue.encodings.save(found, tokens.revision)
        with psycopg.connect(catalogue.conninfo) as connection:  # there are no pixels to encode again
            connection.execute("DELETE FROM job")
    with running_stack(settings.home, models=str(tmp_path / "champion"), **SETTINGS) as running:
        yield running


def wait(what: Callable[[], bool]) -> None:
    """Until it is so; the database may be away meanwhile."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if what():
                return
        except StorageFailed:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_retraining_and_its_encodings_survive_the_death_of_every_process(stack: Stack, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN.as_json()))
    settings = config.load(environ=stack.environment)
    with Catalogue.open(settings) as catalogue:
        retraining = catalogue.retraining

        def retrain(*words: str) -> subprocess.Popen[bytes]:
            log = (stack.home / "retrain.log").open("ab")
            command = [sys.executable, "-m", "radir_pacs.cli", "retrain", *words, "--json"]
            return subprocess.Popen(command, env=stack.environment, stdout=log, stderr=log)

        def trains() -> bool:
            steps = {step.name: step for step in retraining.steps(1)}
            return steps[StepName.TRAIN].state is StepState.RUNNING and steps[StepName.TRAIN].progress > 0

        first = retrain("--plan", str(_toml(plan)))
        wait(lambda: bool(retraining.runs()) and trains())
        trainer = retraining.get(1).worker
        assert trainer is not None
        os.kill(int(trainer.partition(":")[2]), signal.SIGKILL)
        first.wait(LIMIT_S)
        assert retraining.get(1).state == "RUNNING", "killed, so nobody could say otherwise"
        second = retrain("--resume", "1")
        wait(lambda: retraining.get(1).worker != trainer and retraining.get(1).held)
        assert stack.kill("postgres")
        second.wait(LIMIT_S)
        wait(lambda: retraining.get(1).state == "DONE")
        run = retraining.get(1)
        assert run.passed and run.challenger is not None
        model = run.challenger

        def covers(share: float) -> bool:
            return catalogue.models.coverage(model).share >= share

        assert (found := catalogue.models.get(model)) is not None and found.state is ModelState.SHADOW
        for victim, share in (("worker", 0.2), ("postgres", 0.5), ("relay", 0.7)):
            wait(lambda share=share: covers(share))  # type: ignore[misc]
            stack.kill(victim)
        wait(lambda: covers(1.0))
        serving = catalogue.models.serving(ImageKind.CXR)
        assert serving is not None and serving.model_id == run.champion
        challenger = Bundle.load(bundle_folder(settings.home, model))
        name = encoder_id(challenger)
        assert name is not None
        kept = catalogue.image_tokens.of(name, [f"2.25.{study}" for study in range(1, STUDIES + 1)])
        for wanted in Encoder(challenger, device="cpu").encode_batch(kept):
            assert not isinstance(wanted, Exception)
            encoding = catalogue.encodings.get(wanted.study_uid, model)
            assert encoding is not None
            np.testing.assert_allclose(encoding.vectors, wanted.vectors, atol=1e-5)
        assert len(kept) == STUDIES
        _promoted_and_rolled_back(stack, Registry(catalogue, settings), run.champion, model)


def _promoted_and_rolled_back(stack: Stack, registry: Registry, champion: str, model: str) -> None:
    """While a client asks, which meets no error; afterwards the answers are those from before, to the last digit."""
    with Client(stack.web_port) as client:
        before = [client.ask(number) for number in range(1, ASKED + 1)]
        assert {answer["model"] for answer in before} == {champion} and all(answer["cases"] for answer in before)
        with client.asking() as answered:

            def promotes() -> bool:
                try:
                    return registry.promote(model, by="Dr. A", reason="better").state is ModelState.SERVING
                except NotReady:  # its index is being built
                    return False

            wait(lambda: champion in answered)
            wait(promotes)
            wait(lambda: answered[-1] == model)
            began = time.monotonic()
            registry.rollback(ImageKind.CXR, by="Dr. B", reason="worse after all")
            wait(lambda: answered[-1] == champion)
            assert time.monotonic() - began < 60
        changes = [now for before, now in itertools.pairwise(answered) if now != before]
        assert changes == [model, champion], "each answer is whole, and none is of the other model"
        assert [client.ask(number) for number in range(1, ASKED + 1)] == before
    served = RunFiles(folder=stack.home / "retraining" / "1").promotions()
    assert [(one["change"], one["who"]) for one in served] == [("PROMOTED", "Dr. A"), ("ROLLED_BACK", "Dr. B")]


class Client:
    """Asks for similar cases over HTTP, over one connection, one question after the other."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, number: int) -> dict[str, Any]:
        """The model and the cases, scores included. Raises for whatever is no answer."""
        self._connection.request("GET", f"/api/studies/2.25.{number}/similar?anatomy=chest")
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        lines = [json.loads(line) for line in body.splitlines()]
        assert lines[-1]["type"] == "end", body
        return {"model": lines[0]["model"], "cases": [line for line in lines if line["type"] == "case"]}

    @contextmanager
    def asking(self) -> Iterator[list[str]]:
        """The models that answer meanwhile, in order; at its end, any error that a question met is raised."""
        answered: list[str] = []
        stop = threading.Event()

        def work() -> None:
            for number in itertools.cycle(range(1, STUDIES + 1)):
                if stop.wait(ASKED_EVERY_S):
                    return
                answered.append(self.ask(number)["model"])

        with ThreadPoolExecutor(1) as pool:
            asks = pool.submit(work)
            try:
                wait(lambda: bool(answered) or asks.done())
                yield answered
            finally:
                stop.set()
        asks.result()


def _toml(plan: Path) -> Path:
    """The same plan as TOML; what is null there has its default anyway."""
    told = json.loads(plan.read_text())
    lines = [f"{key} = {json.dumps(value)}" for key, value in told.items() if not isinstance(value, dict)]
    for name, table in told.items():
        if isinstance(table, dict):
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None]
    path = plan.with_suffix(".toml")
    path.write_text("\n".join(lines))
    return path
