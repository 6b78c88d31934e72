"""Starts, watches, restarts and stops the processes of one machine, and watches its embedded Postgres."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

from radir_pacs.catalogue import embedded_pid, start_embedded
from radir_pacs.cli.state import drop_state, write_state
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import SettingError, StorageFailed

log = logging.getLogger(__name__)

# numpy multiplies small matrices here: on more threads it took 1.7 times the processor time, at the network's cost
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
WRONG_SETTINGS = SettingError.exit_code  # how a process ends that no restart will help
_STEADY_S = 30.0  # a process that has run this long counts as stable, and its count of quick ends starts again at 0
CRASH_LOOP = 3  # a process that ended this often within seconds of its start
_LAST_BYTES = 4096  # of a log, searched for its last line
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_STOP_S = 20.0
_MOST_DOUBLINGS = 10  # more than the longest pause needs; 2 to the number of restarts would overflow in a night
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
    """All processes of ``settings``; ``run`` returns after ``stop``, when everything has ended.

    ``broken``: it could not go on watching and stopped everything without being asked to.
    """

    settings: Settings
    children: list[_Child] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    broken: bool = False
    database_restarts: int = 0
    _database_seen: float = 0.0
    _database_pid: int | None = None

    def __post_init__(self) -> None:
        s = self.settings
        for number in range(s.listener_process_count):
            name = _numbered("listener", number)
            self.children.append(_Child(name, ["radir_pacs.listener", "--name", name]))
        if s.hl7_port:
            self.children.append(_Child("hl7", ["radir_pacs.hl7", "--name", "hl7"]))
        for number in range(s.web_process_count):
            name = _numbered("web", number)
            self.children.append(_Child(name, ["radir_pacs.web", "--name", name]))
        self.children.append(_Child("relay", ["radir_workers", "relay", "--name", "relay"]))
        self.children.append(_Child("indexer", ["radir_workers", "indexer", "--name", "indexer"]))
        self.children.append(_Child("transfer", ["radir_workers", "transfer", "--name", "transfer"]))
        for number in range(s.worker_processes):
            name = _numbered("worker", number)
            self.children.append(_Child(name, ["radir_workers", "worker", "--name", name, "--number", str(number)]))

    def run(self) -> None:
        """Keep every process up until told to stop, then end them all, the last ones by force."""
        try:
            while not self.stopping.is_set():
                self._tend_database()
                for child in self.children:
                    self._tend(child)
                self.stopping.wait(_TICK_S)
        except Exception:  # the edge of a process: processes that nobody watches must not stay
            log.exception("the supervisor failed; everything is stopped")
            self.broken = True
        finally:
            self.stopping.set()  # whoever waits for it must not wait for ever
            self._stop_all()

    def stop(self) -> None:
        self.stopping.set()

    def names_without(self, pids: Set[int]) -> list[str]:
        """The processes that are not running, or not with one of these process ids."""
        return [child.name for child in self.children if child.process is None or child.process.pid not in pids]

    def failed(self) -> _Child | None:
        """A process that cannot stay up: it ended three times within seconds, or said that its settings are wrong."""
        return next(
            (c for c in self.children if c.quick_ends >= CRASH_LOOP or c.last_exit == WRONG_SETTINGS),
            None,
        )

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                if child.quick_ends and now - child.started > _STEADY_S:
                    child.quick_ends = 0
                    self._write_state()
                self._trim_log(child)
                return
            _kill_group(child.process)
            child.last_exit, child.process = code, None
            child.restarts += 1
            self._pause(child, now, f"ended with exit status {code}")
            self._write_state()
        if now >= child.not_before:
            try:
                self._start(child)
            except OSError as error:  # no memory, no room, no descriptor: it may come back
                child.started = now
                self._pause(child, now, f"cannot be started: {error.strerror}")

    def _pause(self, child: _Child, now: float, why: str) -> None:
        """Wait before the next start; longer each time it ended within seconds."""
        child.quick_ends = child.quick_ends + 1 if now - child.started < _STEADY_S else 0
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(child.quick_ends, _MOST_DOUBLINGS), _LONGEST_PAUSE_S)
        child.not_before = now + pause_s
        log.warning("%s %s; it starts again in %.1f s", child.name, why, pause_s)

    def _tend_database(self) -> None:
        """Start the embedded Postgres again when it has ended, unless a process that starts itself was quicker."""
        now = time.monotonic()
        if self.settings.database_url or now - self._database_seen < _DATABASE_TICK_S:
            return
        self._database_seen = now
        pid = embedded_pid(self.settings.home)
        if pid is None:
            self.database_restarts += 1
            log.warning("the embedded Postgres ended and is started again")
            try:
                start_embedded(self.settings.home)
            except (StorageFailed, OSError) as error:  # as on a full disk; tried again at the next look
                log.error("the embedded Postgres does not start: %s", error)
            pid = embedded_pid(self.settings.home)
            self._write_state()
        elif self._database_pid not in (None, pid):
            self.database_restarts += 1
            log.warning("the embedded Postgres ended; a process that needed it has started it again")
            self._write_state()
        self._database_pid = pid

    def _start(self, child: _Child) -> None:
        environment = ONE_BLAS_THREAD | os.environ | to_environment(self.settings)
        with self.log_of(child.name).open("ab") as output:
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

    def _trim_log(self, child: _Child) -> None:
        """Keep about ``_LOG_BYTES`` of a log, and one older file of that size. The process goes on appending."""
        path = self.log_of(child.name)
        with contextlib.suppress(OSError):
            if path.stat().st_size > _LOG_BYTES:
                with contextlib.suppress(OSError):  # a full disk keeps no copy
                    shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    def _stop_all(self) -> None:
        running = [child.process for child in self.children if child.process and child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _kill_group(process)
        drop_state(self.settings)

    def log_of(self, name: str) -> Path:
        path = log_path(self.settings.home, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_state(self) -> None:
        database = None
        if not self.settings.database_url:
            database = {"pid": embedded_pid(self.settings.home), "restarts": self.database_restarts}
        state = {
            "pid": os.getpid(),
            "listener": {
                "ae_title": self.settings.ae_title,
                "host": self.settings.listener_host,
                "port": self.settings.listener_port,
            },
            "web": f"http://{self.settings.web_host}:{self.settings.web_port}",
            "database": database,
            "processes": [
                {
                    "name": child.name,
                    "command": child.module,
                    "pid": child.process.pid if child.process else None,
                    "restarts": child.restarts,
                    "last_exit": child.last_exit,
                    "quick_ends": child.quick_ends,
                }
                for child in self.children
            ],
        }
        try:
            write_state(self.settings, state)
        except OSError as error:  # `radir status` is then out of date; the processes matter more
            log.error("the state of the processes cannot be written: %s", error.strerror)


def log_path(home: Path, name: str) -> Path:
    return home / "logs" / f"{name}.log"


def last_words(log: Path) -> str:
    """The last line of a process's log, empty where there is none."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_BYTES))
        return "".join(file.read().decode(errors="replace").strip().splitlines()[-1:])
    return ""


def _numbered(name: str, number: int) -> str:
    """The first of a kind has its plain name, and so its log, however many there are."""
    return f"{name}-{number + 1}" if number else name


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process and its children (a decoder may outlive a worker that was killed)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
