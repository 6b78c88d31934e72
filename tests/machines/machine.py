"""A machine that is a set of Linux namespaces: its own network, processes, host name, memory files and home folder.

`power_off` is a power cut: every process is gone at once, and no peer hears so much as a FIN.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines.network import Network

_ROOT = Path(__file__).resolve().parents[2]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
    _init: subprocess.Popen[bytes] | None = None

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
        self._init = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("nsenter", f"--net=/run/netns/{self.network.namespace(self.name)}"),
                *("unshare", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid"),
                *("--fork", "--kill-child=SIGKILL", "--mount-proc", "sh", str(boot)),
            ],
            stdin=subprocess.DEVNULL,
        )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._init is not None
        return self._init

    def kill(self) -> None:
        """kill -9 of every process. The kernel lives on, and tells their peers that they are gone."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()
            self._init = None

    def power_off(self) -> None:
        self.network.unplug(self.name)
        self.kill()
        self.network.forget(self.name)

    def sees(self) -> dict[str, bool]:
        """Which home folders a process of this machine can read, by their machines' names."""
        [first] = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        root = ["nsenter", "--mount", f"--target={first}"]
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
