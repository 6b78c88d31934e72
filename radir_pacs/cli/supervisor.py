"""Starts, watches, restarts and stops the processes of one machine, and watches its embedded Postgres."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from radir_pacs.catalogue import embedded_pid, start_embedded
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import RadirError, StorageFailed

_STEADY_S = 30.0  # a process that lived this long starts its restarts afresh
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_STOP_S = 20.0
_LOG_BYTES = 20 << 20
_TICK_S = 0.2
_DATABASE_TICK_S = 1.0


@dataclass
class _Child:
    name: str
    module: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    quick_ends: int = 0
    not_before: float = 0.0
    last_exit: int | None = None


@dataclass
class Supervisor:
    """All processes of ``settings``; ``run`` returns when ``stop`` was asked for and everything has ended."""

    settings: Settings
    children: list[_Child] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    database_restarts: int = 0
    _database_seen: float = 0.0

    def __post_init__(self) -> None:
        s = self.settings
        for number in range(s.listener_processes):
            name = _numbered("listener", number, s.listener_processes)
            self.children.append(_Child(name, ["radir_pacs.listener", "--name", name]))
        self.children.append(_Child("web", ["radir_pacs.web"]))
        self.children.append(_Child("relay", ["radir_workers", "relay", "--name", "relay"]))
        for number in range(s.worker_processes):
            name = _numbered("worker", number, s.worker_processes)
            self.children.append(_Child(name, ["radir_workers", "worker", "--name", name]))

    def run(self) -> None:
        """Keep every process up until told to stop, then end them all, the last ones by force."""
        try:
            while not self.stopping.is_set():
                self._tend_database()
                for child in self.children:
                    self._tend(child)
                self.stopping.wait(_TICK_S)
        finally:
            self._stop_all()

    def stop(self) -> None:
        self.stopping.set()

    def pids(self) -> set[int]:
        """Process ids of all processes; -1 stands for one that is not running."""
        return {child.process.pid if child.process else -1 for child in self.children}

    def failed(self) -> _Child | None:
        """A process that cannot stay up: it ended three times within seconds of its start."""
        return next((child for child in self.children if child.quick_ends >= 3), None)

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                if child.quick_ends and now - child.started > _STEADY_S:
                    child.quick_ends = 0
                return
            child.quick_ends = child.quick_ends + 1 if now - child.started < _STEADY_S else 0
            pause_s = min(_FIRST_PAUSE_S * 2**child.quick_ends, _LONGEST_PAUSE_S)
            child.last_exit, child.process, child.not_before = code, None, now + pause_s
            child.restarts += 1
            self._write_state()
        if now >= child.not_before:
            self._start(child)

    def _tend_database(self) -> None:
        """Start the embedded Postgres again when it ended: no other process would, before it is started anew itself."""
        now = time.monotonic()
        if self.settings.database_url or now - self._database_seen < _DATABASE_TICK_S:
            return
        self._database_seen = now
        if embedded_pid(self.settings.home) is not None:
            return
        self.database_restarts += 1
        with contextlib.suppress(StorageFailed):  # tried again at the next look
            start_embedded(self.settings.home)
        self._write_state()

    def _start(self, child: _Child) -> None:
        log = self.log_of(child.name)
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        environment = os.environ | to_environment(self.settings)
        with log.open("ab") as output:
            child.process = subprocess.Popen(
                [sys.executable, "-m", *child.module],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the others in order
            )
        child.started = time.monotonic()
        self._write_state()

    def _stop_all(self) -> None:
        running = [child.process for child in self.children if child.process and child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _kill_group(process)
        state_file(self.settings).unlink(missing_ok=True)

    def log_of(self, name: str) -> Path:
        folder = self.settings.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def _write_state(self) -> None:
        database = None
        if not self.settings.database_url:
            database = {"pid": embedded_pid(self.settings.home), "restarts": self.database_restarts}
        state = {
            "pid": os.getpid(),
            "database": database,
            "processes": [
                {
                    "name": child.name,
                    "pid": child.process.pid if child.process else None,
                    "restarts": child.restarts,
                    "last_exit": child.last_exit,
                }
                for child in self.children
            ],
        }
        path = state_file(self.settings)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(state))
        part.replace(path)


def _numbered(name: str, number: int, count: int) -> str:
    return name if count == 1 else f"{name}-{number + 1}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process and its children (a decoder may outlive a worker that was killed)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def state_file(settings: Settings) -> Path:
    return settings.home / "supervisor.json"


def read_state(settings: Settings) -> dict[str, Any] | None:
    """What a running supervisor says of its processes; None when none runs in this home folder."""
    try:
        state: dict[str, Any] = json.loads(state_file(settings).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return state if psutil.pid_exists(int(state["pid"])) else None


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the home folder: a second supervisor in it is refused in one line."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "radir.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RadirError(f"radir runs already in {settings.home}") from None
        yield
