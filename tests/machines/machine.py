"""A machine that is a set of Linux namespaces: its own network, processes, host name, memory files and home folder.

`power_off` is a power cut: every process is gone at once, and no peer hears so much as a FIN.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines.network import Network

_ROOT = Path(__file__).resolve().parents[2]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE_S = 60.0
_RESTART_S = 1  # as systemd's RestartSec


@dataclass(frozen=True, kw_only=True)
class Program:
    """``restarts``: whether it is started again when it ends, as systemd does."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts: bool = True

    def line(self, logs: Path) -> str:
        """For a shell."""
        variables = [f"{name}={value}" for name, value in ({"PATH": _PATH} | dict(self.environment)).items()]
        run = f"{shlex.join(['env', '-i', *variables, *self.command])} >>{shlex.quote(str(logs / self.name))}.log 2>&1"
        again = f"while :; do {run}; sleep {_RESTART_S}; done" if self.restarts else run
        return f"( {again} ) &"


@dataclass
class Machine:
    """``home``: the only folder that it has of those of ``others``."""

    name: str
    home: Path
    network: Network
    others: Sequence[Path]
    programs: Sequence[Program] = ()
    _unshare: subprocess.Popen[bytes] | None = None
    _init: int = -1  # a pidfd of the first process of the machine's PID namespace

    @property
    def logs(self) -> Path:
        return self.home / "console"

    def power_on(self, *, plugged: bool = True) -> None:
        """``plugged``: its namespace stands already."""
        if not plugged:
            self.network.plug(self.name)
        self.logs.mkdir(parents=True, exist_ok=True)
        boot = self.home / "boot.sh"
        hidden = [f"mount -t tmpfs -o size=4k,mode=000 hidden {shlex.quote(str(other))}" for other in self.others]
        boot.write_text(
            "\n".join(
                [
                    "set -e",
                    f"hostname {self.name}",
                    *hidden,
                    "mount -t tmpfs -o mode=1777 memory /dev/shm",
                    f"cd {shlex.quote(str(_ROOT))}",
                    *(program.line(self.logs) for program in self.programs),
                    "wait",
                ]
            )
        )
        with (self.logs / "boot.log").open("ab") as log:
            self._unshare = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("nsenter", f"--net=/run/netns/{self.network.namespace(self.name)}"),
                    *("unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid"),
                    *("--fork", "--kill-child=SIGKILL", "--mount-proc", "sh", str(boot)),
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self._init = os.pidfd_open(self.first_process())

    def first_process(self) -> int:
        """Id of the machine's own process 1."""
        deadline, parent = time.monotonic() + _PATIENCE_S, self.process.pid
        while True:
            if children := Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
                return int(children[0])
            assert self.process.poll() is None, f"{self.name} does not start"
            assert time.monotonic() < deadline, f"{self.name} does not start"
            time.sleep(0.01)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._unshare is not None
        return self._unshare

    def run(self, command: Sequence[str], like: str, seconds: float) -> str:
        """What a command writes that runs here with the environment of the program named ``like``.

        Raises subprocess.CalledProcessError.
        """
        [environment] = [program.environment for program in self.programs if program.name == like]
        inside = ["nsenter", f"--target={self.first_process()}", "--net", "--mount", "--uts", "--ipc", "--pid"]
        done = subprocess.run(
            [*inside, "env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command],
            cwd=_ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        return done.stdout

    def kill(self) -> None:
        """kill -9 of every process, all of which are gone afterwards. The kernel lives on, and tells their peers.

        The end of process 1 takes all others of its namespace along, and is told when they have ended (pid_namespaces).
        """
        if self._unshare is None:
            return
        if self._init >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            gone, _, _ = select.select([self._init], [], [], _PATIENCE_S)
            os.close(self._init)
            self._init = -1
            assert gone, f"processes of {self.name} do not end"
        self._unshare.kill()
        self._unshare.wait(_PATIENCE_S)
        self._unshare = None

    def power_off(self) -> None:
        self.network.unplug(self.name)
        self.kill()
        self.network.forget(self.name)

    def sees(self) -> dict[str, bool]:
        """Which home folders a process of this machine can read, by their machines' names."""
        root = ["nsenter", "--mount", f"--target={self.first_process()}"]
        return {
            folder.name: subprocess.run([*root, "test", "-e", str(folder / "boot.sh")], timeout=30).returncode == 0
            for folder in (self.home, *self.others)
        }

    def said(self, most: int = 3000) -> str:
        """The end of what each program wrote."""
        files = [*self.logs.glob("*.log"), *self.home.glob("radir/logs/*.log")]
        told = []
        for path in sorted(files):
            with contextlib.suppress(OSError):
                told.append(f"--- {self.name} {path.name}\n{path.read_text(errors='replace')[-most:]}")
        return "\n".join(told)
