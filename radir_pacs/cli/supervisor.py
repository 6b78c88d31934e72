"""Starts, watches, restarts and stops the processes of one machine, and watches its embedded Postgres.

`radir up` and `radir serve` both run one, over all roles or over some.
"""

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
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from radir_pacs import handed_sockets, metrics
from radir_pacs.catalogue import embedded_pid, start_embedded
from radir_pacs.cli.roles import ALL, LISTENING, Role, processes_of, set_name
from radir_pacs.cli.state import drop_state, write_state
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import SettingError, StorageFailed
from radir_pacs.storage.fetched import Fetched

log = logging.getLogger(__name__)

# numpy multiplies small matrices here: on more threads it took 1.7 times the processor time, at the network's cost
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
WRONG_SETTINGS = SettingError.exit_code  # how a process ends that no restart will help
_STEADY_S = 30.0  # a process that has run this long counts as stable, and its count of quick ends starts again at 0
CRASH_LOOP = 3  # a process that ended this often within seconds of its start
_LAST_BYTES = 4096  # of a log, searched for its last line
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_STOP_S = 5.0  # beyond drain_s, for processes to end in order
_MOST_DOUBLINGS = 10  # more than the longest pause needs; 2 to the number of restarts would overflow in a night
_LOG_BYTES = 20 << 20
_TICK_S = 0.2
_DATABASE_TICK_S = 1.0
_TRIM_TICK_S = 60.0


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
    """The processes of ``roles``; ``run`` returns after ``stop``, when everything has ended.

    suffix: of the processes' names, where other machines run the same roles. turned_s: when it last looked after
    them, monotonic. ``broken``: it could not go on watching and stopped everything without being asked to.
    """

    settings: Settings
    roles: Collection[Role] = ALL
    suffix: str = ""
    children: list[_Child] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    broken: bool = False
    database_restarts: int = 0
    _database_seen: float = 0.0
    _trimmed: float = float("-inf")
    _trimming: threading.Thread | None = None
    _database_pid: int | None = None
    turned_s: float = field(default_factory=time.monotonic)
    figures: Path | None = None  # where the processes count together

    def __post_init__(self) -> None:
        for name, command in processes_of(self.settings, self.roles, self.suffix):
            self.children.append(_Child(name, command))
        self._set = set_name(self.roles, self.suffix)

    def run(self) -> None:
        """Keep every process up until told to stop, then end them all, the last ones by force."""
        try:
            self.figures = metrics.make_folder(self.settings.home, self._set or "all")
            while not self.stopping.is_set():
                self.turned_s = time.monotonic()
                self._tend_database()
                self._trim_copies()
                for child in self.children:
                    self._tend(child)
                self.stopping.wait(_TICK_S)
        except Exception:  # the edge of a process: processes that nobody watches must not stay
            log.exception("the supervisor failed; everything is stopped")
            self.broken = True
        finally:
            self.stopping.set()  # whoever waits for it must not wait for ever
            self._stop_all()
            if self.figures is not None:
                shutil.rmtree(self.figures, ignore_errors=True)

    def stop(self) -> None:
        self.stopping.set()

    def pids(self) -> dict[str, int]:
        """Process id of each process by its name; -1 stands for one that is not running."""
        return {child.name: child.process.pid if child.process else -1 for child in self.children}

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
                if self.settings.log_to == "files":
                    self._trim_log(child)
                return
            _kill_group(child.process)
            if self.figures is not None:
                metrics.forget_process(self.figures, child.name)
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

    def _trim_copies(self) -> None:
        """Bound the copies of what is in a bucket or came from a source PACS, which every machine has of its own.

        In a thread: a slow disk must not keep the processes from being looked after.
        """
        now = time.monotonic()
        under_way = self._trimming is not None and self._trimming.is_alive()
        if under_way or now - self._trimmed < _TRIM_TICK_S:
            return
        self._trimmed = now
        self._trimming = threading.Thread(target=self._trim, name="trim", daemon=True)
        self._trimming.start()

    def _trim(self) -> None:
        try:
            Fetched(self.settings.home, self.settings.source_cache_mib << 20).trim()
            if self.settings.blob_store:
                from radir_pacs.storage.s3_blobs import trim_copies  # most supervisors need no client of S3

                trim_copies(self.settings.home / "blobs", self.settings.blob_cache_mib << 20)
        except (OSError, StorageFailed) as error:
            log.warning("the copies of files from elsewhere cannot be trimmed: %s", type(error).__name__)

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
        if self.figures is not None:
            environment[metrics.SHARED] = str(self.figures)
        with self._output(child.name) as output:
            child.process = subprocess.Popen(
                [sys.executable, "-m", *child.module],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=tuple(handed_sockets.descriptors().values()) if child.module[0] in LISTENING else (),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the others in order
            )
        child.started = time.monotonic()
        self._write_state()

    def _output(self, name: str) -> BinaryIO:
        """Where a process writes its log: its file, or a copy of our own standard error."""
        if self.settings.log_to == "stderr":
            return os.fdopen(os.dup(sys.stderr.fileno()), "ab")
        return self.log_of(name).open("ab")

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
        deadline = time.monotonic() + self.settings.drain_s + _STOP_S
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _kill_group(process)
        drop_state(self.settings, self._set)

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
            "web": self.settings.web_url,
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
            write_state(self.settings, state, self._set)
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


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process and its children (a decoder may outlive a worker that was killed)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
