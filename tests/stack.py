"""The real stack as an administrator starts it: `radir up` in a home folder and on ports of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.cli.status import gather, look
from tests.conftest import free_port

MACHINES = "RADIR_TEST_MACHINES"
ENDED = {"INDEXED", "SKIPPED", "QUARANTINED"}


@dataclass
class Stack:
    home: Path
    listener_port: int
    web_port: int
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    @staticmethod
    def free_ports() -> dict[str, str]:
        """Settings with free ports."""
        return {"RADIR_LISTENER_PORT": str(free_port()), "RADIR_WEB_PORT": str(free_port())}

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def radir(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command against this stack, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "radir_pacs.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=480,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        """What one command says with --json. It runs in this process: each that starts takes seconds to import."""
        said = io.StringIO()
        with mock.patch.dict(os.environ, self.environment, clear=True), contextlib.redirect_stdout(said):
            assert main([*arguments, "--json"]) == 0
        return json.loads(said.getvalue())

    def status(self) -> Any:
        """What `radir status` says, asked in this process."""
        return json.loads(json.dumps(gather(config.load(environ=self.environment)), default=str))

    def wait(self, condition: Callable[[Any], bool], seconds: float = 240) -> Any:
        """Wait until the status meets the condition; returns that status."""
        deadline = time.monotonic() + seconds
        settings = config.load(environ=self.environment)
        with Catalogue.open(settings) as catalogue:  # once: opening it takes most of the time of a look
            while True:
                found = json.loads(json.dumps(look(settings, catalogue), default=str))
                if condition(found):
                    return found
                assert time.monotonic() < deadline, f"not reached; last status: {found}"
                assert self.process.poll() is None, "radir up ended"
                time.sleep(0.5)

    def wait_until_done(self, studies: int, seconds: float = 240) -> Any:
        """Wait until so many studies have reached their final state and no job is open."""
        return self.wait(
            lambda s: (
                sum(s["studies"].get(state, 0) for state in ENDED) == studies == sum(s["studies"].values())
                and not s["queue"]
            ),
            seconds,
        )

    def wait_until_up(self) -> None:
        """Wait until `radir up` prints its addresses."""
        deadline = time.monotonic() + 120
        while b"State" not in (self.home / "up.log").read_bytes():
            assert self.process.poll() is None, (self.home / "up.log").read_text()
            assert time.monotonic() < deadline, "radir up does not come up"
            time.sleep(0.05)

    def pid_of(self, name: str) -> int:
        found = {p["name"]: p for p in json.loads((self.home / "supervisor.json").read_text())["processes"]}
        return int(found[name]["pid"])

    def kill(self, name: str) -> bool:
        """kill -9 one process of the stack, or its embedded Postgres by the name "postgres". False: it is just down."""
        state = json.loads((self.home / "supervisor.json").read_text())
        found = {"postgres": state["database"]} | {process["name"]: process for process in state["processes"]}
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(found[name]["pid"], signal.SIGKILL)
            return True
        return False


def here() -> str:
    """Where every machine of the stack that is started next reaches what the test serves."""
    if os.environ.get(MACHINES) != "3":
        return "127.0.0.1"
    from tests.machines.installation import front_address

    return front_address()


@contextmanager
def running_stack(home: Path, **settings: str) -> Iterator[Stack]:
    """`radir up`, answering; stopped by SIGTERM at the end, which must end it in order.

    With RADIR_TEST_MACHINES=3 in the environment it is three machines, of which ``home`` is not one.
    """
    if os.environ.get(MACHINES) == "3":
        from tests.machines.stack import running_on_three  # which needs this module

        with running_on_three(**settings) as elsewhere:
            yield elsewhere
        return
    with running_alone(home, **settings) as stack:
        yield stack


@contextmanager
def running_alone(home: Path, **settings: str) -> Iterator[Stack]:
    """As `running_stack`, on one machine whatever the environment says."""
    listener_port, web_port = free_port(), free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RADIR_")} | {
        "RADIR_HOME": str(home),
        "RADIR_LISTENER_PORT": str(listener_port),
        "RADIR_WEB_PORT": str(web_port),
        "RADIR_LISTENER_PROCESSES": "1",
        "RADIR_QUIET_PERIOD_S": "0.5",
        "RADIR_DEVICE": "cpu",
        "RADIR_TORCH_THREADS": "1",
        "RADIR_WEB_PROCESSES": "1",
        "RADIR_QUALITY_WEEKLY": "False",  # what begins at night would begin in tests at night
        **{f"RADIR_{name.upper()}": value for name, value in settings.items()},
    }
    home.mkdir(parents=True, exist_ok=True)
    stack = Stack(home, listener_port, web_port, up(home, environment), environment)
    try:
        stack.wait_until_up()
        yield stack
    finally:
        stack.process.send_signal(signal.SIGTERM)
        try:
            code = stack.process.wait(60)
        except subprocess.TimeoutExpired:
            stack.process.kill()
            raise
    assert code == 0, (home / "up.log").read_text()


def _heed_hang_up() -> None:
    """Under nohup SIGHUP is ignored, which a child would inherit and `radir up` would respect."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def up(home: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start `radir up`; its output goes to a new up.log."""
    with (home / "up.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "radir_pacs.cli", "up"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_heed_hang_up,
        )
