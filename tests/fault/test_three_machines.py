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
from tests.machines.drill import Drill
from tests.machines.installation import FRONT, KEEP, WORK, Installation, three_machines
from tests.machines.network import OUTSIDE
from tests.machines.waiters import waiting
from tests.stack import MACHINES

SETTINGS = {"job_lease_s": "5", "job_max_attempts": "50", "result_limit_max": "1000"}
CUT_S = 10.0  # longer than it takes to find out that the database is silent
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
    with drill.load(), waiting(installation, settings, drill.catalogue):
        installation.power_off(WORK)
        installation.power_on(WORK)
        began = time.monotonic()
        with installation.network.cut(FRONT, KEEP):  # while work starts
            drill.wait_for_status(503, "database_away", since=began)
        drill.recovered("a power cut of work and a cut link")
    drill.check()


@every_failure
@pytest.mark.timeout(900)
def test_each_machine_and_each_link_fails_under_load(installation: Installation, drill: Drill) -> None:
    links = [
        (OUTSIDE, FRONT),
        (FRONT, WORK),
        (FRONT, KEEP),
        (WORK, KEEP),
        *(
            (machine, KEEP, service)
            for machine in (FRONT, WORK)
            for service in ("database", "broker", "store", "vectors")
        ),
    ]
    with drill.load():
        for name, machine in installation.machines.items():
            machine.kill()
            machine.power_on()
            drill.recovered(f"kill -9 of every process of {name}")
            installation.power_off(name)
            time.sleep(CUT_S)  # the failure itself
            installation.power_on(name)
            drill.recovered(f"{CUT_S:.0f} s without power: {name}")
        for near, far, *services in links:
            with installation.network.cut(near, far, *services):
                time.sleep(CUT_S)  # the failure itself
            drill.recovered(f"{CUT_S:.0f} s without a link: {near} to {'/'.join([far, *services])}")
    drill.check()
