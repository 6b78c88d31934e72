"""The supervisor itself is killed, or told to stop while it starts: no process outlives it for good."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.stack import Stack, running_stack, up

NAMES = {"listener", "web", "relay", "transfer", "worker", "indexer"}


def living(home: Path) -> list[psutil.Process]:
    """Processes with this home folder among their settings, and its Postgres."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RADIR_HOME") == str(home) or str(home / "postgres") in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE]


def states(status: dict[str, Any]) -> dict[str, str]:
    return {process["name"]: process["state"] for process in status["processes"]}


def test_after_kill_9_of_the_supervisor_the_next_start_takes_over(tmp_path: Path) -> None:
    with running_stack(tmp_path / "home") as stack:
        old = {stack.pid_of(name) for name in NAMES}
        stack.process.kill()
        stack.process.wait()
        assert not stack.status()["running"]
        stack.process = up(stack.home, stack.environment)
        stack.wait_until_up()
        assert states(stack.wait(lambda s: set(states(s).values()) == {"UP"})) == dict.fromkeys(NAMES, "UP")
        assert not old & {stack.pid_of(name) for name in NAMES}
        assert not old & {process.pid for process in living(stack.home)}, "they would hold the ports"
    assert living(tmp_path / "home") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_while_starting_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"RADIR_HOME": str(home), "RADIR_DEVICE": "cpu"} | Stack.free_ports()
    process = up(home, environment)
    deadline = time.monotonic() + 60
    while not (home / "supervisor.json").exists():
        assert process.poll() is None and time.monotonic() < deadline, (home / "up.log").read_text()
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) == 0, (home / "up.log").read_text()
    assert living(home) == []
