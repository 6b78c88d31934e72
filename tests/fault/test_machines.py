"""What the drill of three machines takes for granted of a machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines.machine import Machine, Program
from tests.machines.network import Network, need_namespaces


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need_namespaces()
    subnet = Network({}).subnet
    network = Network({"one": {"one": f"{subnet}.11"}})
    network.build()
    made = Machine("one", tmp_path, network, [], [Program(name=f"{n}", command=["sleep", "600"]) for n in range(50)])
    try:
        yield made
    finally:
        made.kill()
        network.remove()


def processes(namespace: str) -> list[Path]:
    """Of a PID namespace, those that have ended but not been waited for included."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((process / "ns" / "pid").readlink()) == namespace:
                found.append(process)
    return found


def test_no_process_of_a_machine_is_left_when_it_is_off(machine: Machine) -> None:
    for attempt in range(3):
        machine.power_on(plugged=attempt == 0)
        namespace = str(Path(f"/proc/{machine.first_process()}/ns/pid").readlink())
        assert processes(namespace)
        machine.power_off()
        assert processes(namespace) == []
