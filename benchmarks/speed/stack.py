"""The real processes of an installation in a home folder, for benchmarks: started, found, measured, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from radir_pacs.catalogue import embedded_pid, stop_embedded
from radir_pacs.config import Settings, to_environment

_UP_S = 180.0


def settings_in(home: Path, **changes: object) -> Settings:
    """Settings as they come, in this home folder and on free ports."""
    return Settings(home=home, listener_port=free_port(), web_port=free_port(), **changes)  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Memory:
    """MiB: resident, and with shared pages divided among those who share them."""

    rss: float
    pss: float


@contextmanager
def web_alone(settings: Settings) -> Iterator[int]:
    """The web process and the embedded Postgres; gives the process id."""
    process = _start(settings, "-m", "radir_pacs.web")
    try:
        _wait_for_web(settings, process)
        yield process.pid
    finally:
        _stop(process)
        stop_embedded(settings.home)


@contextmanager
def radir_up(settings: Settings) -> Iterator[None]:
    """Everything that `radir up` starts."""
    process = _start(settings, "-m", "radir_pacs.cli", "up")
    try:
        _wait_until(lambda: b"State" in _log(settings).read_bytes(), process)  # its last line when all have started
        yield
    finally:
        _stop(process)


def pids(settings: Settings) -> dict[str, int]:
    """Process ids by name, of what `radir up` runs now."""
    state = json.loads((settings.home / "supervisor.json").read_text())
    return {entry["name"]: entry["pid"] for entry in state["processes"] if entry["pid"]}


def memory(pid: int) -> Memory:
    """Of a process and its children."""
    root = psutil.Process(pid)
    found = []
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(process.memory_full_info())
    return Memory(rss=sum(one.rss for one in found) / 2**20, pss=sum(one.pss for one in found) / 2**20)


def processor_s(settings: Settings) -> float:
    """Processor seconds that the web processes and the embedded Postgres have had so far."""
    server = embedded_pid(settings.home)
    roots = [pid for name, pid in pids(settings).items() if is_web(name)] + ([server] if server else [])
    total = 0.0
    for pid in roots:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
    return total


def is_web(name: str) -> bool:
    return name.split("-")[0] == "web"


def peak_mib(pid: int) -> float:
    """The most that a process had resident so far (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _start(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADIR_")}
    with _log(settings).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *arguments], env=environment | to_environment(settings), stdout=log, stderr=log
        )


def _log(settings: Settings) -> Path:
    return settings.home / "benchmark.log"


def _wait_for_web(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            return requests.get(f"{settings.public_url}/health/ready", timeout=5).status_code == 200
        return False

    _wait_until(answers, process)


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _UP_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("error: the service does not start: see benchmark.log and logs in the home folder")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
