"""One installation on three machines without a common folder: power cuts and cut links under load.

Network namespaces stand for machines. A cut link loses packets silently, and a machine without power says no last word:
what ends a wait then is a time limit of ours. RADIR_TEST_MACHINES=3 runs every failure by itself, which takes minutes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from radir_pacs.catalogue import Catalogue
from tests.machines.checks import check
from tests.machines.drill import Drill
from tests.machines.failures import long_drill
from tests.machines.installation import FRONT, KEEP, WORK, Installation, three_machines
from tests.machines.waiters import waiting
from tests.stack import MACHINES

HELD = 3  # studies before the load begins: from then on an empty answer is a wrong one
SETTINGS = {"job_lease_s": "5", "job_max_attempts": "50", "result_limit_max": "2000"}
every_failure = pytest.mark.skipif(os.environ.get(MACHINES) != "3", reason=f"it takes minutes: {MACHINES}=3 runs it")


@pytest.fixture
def installation() -> Iterator[Installation]:
    with three_machines(**SETTINGS) as made:
        yield made


@pytest.fixture
def drill(installation: Installation, tmp_path: Path) -> Iterator[Drill]:
    with Catalogue.as_it_is(installation.of_outside(tmp_path / "outside")) as catalogue:
        yield Drill(installation, catalogue, tmp_path)


@pytest.mark.timeout(900)
def test_a_machine_and_a_link_fail_under_load(installation: Installation, drill: Drill, tmp_path: Path) -> None:
    """Nothing acknowledged is lost, no answer is wrong, no wait is endless, and all goes on by itself."""
    seen = {name: machine.sees() for name, machine in installation.machines.items()}
    assert seen == {name: {name: True} | dict.fromkeys(seen.keys() - {name}, False) for name in seen}, (
        "no common folder"
    )
    settings = installation.of_outside(tmp_path / "outside")
    drill.hold(HELD)
    with (
        drill.load(),
        drill.failure("a power cut of work and a cut link"),  # it ends when the catalogue is reached again
        waiting(installation, settings, drill.catalogue),
    ):
        installation.power_off(WORK)
        installation.power_on(WORK)
        began = time.monotonic()
        with installation.network.cut(FRONT, KEEP):  # while work starts
            drill.wait_for_status(drill.of_all, 503, "database_away", since=began)
    check(drill)


@every_failure
@pytest.mark.flaky(reruns=0)  # a drill that fails once has failed
@pytest.mark.timeout(3600)
def test_each_machine_and_each_link_fails_under_load(tmp_path: Path) -> None:
    """Vectors are in Milvus, whither a command moved them; a model was promoted meanwhile."""
    figures = long_drill(tmp_path)
    assert figures["answered_by_engine"] > 0
    assert set(figures["models"]) == {figures["promotion"]["before"], figures["promotion"]["after"]}
    told = {code for failure in figures["failures"] for code in failure["told"]}
    assert {"database_away", "engine_away"} <= told
