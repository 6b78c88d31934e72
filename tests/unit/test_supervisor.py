"""The supervisor with processes that run, die, hang and log too much."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.cli import supervisor as module
from radir_pacs.cli import up
from radir_pacs.cli.named_files import check_bundles
from radir_pacs.cli.state import read_state
from radir_pacs.cli.supervisor import Supervisor, _Child
from radir_pacs.config import Settings
from radir_pacs.encode import default_bundles
from radir_pacs.errors import RadirError, SettingError, StorageFailed
from radir_pacs.types import ImageKind

PROGRAMS = {
    "sleeper": "import time\ntime.sleep(600)\n",
    "crasher": "raise SystemExit('error: the model is of yesterday')\n",
    "misled": "print('error: weights.safetensors was altered')\nraise SystemExit(78)\n",
    "stubborn": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('deaf', flush=True)\ntime.sleep(600)\n",
    "talker": "import time\nwhile True:\n    print('x' * 99, flush=True)\n    time.sleep(0.0005)\n",
}


def eventually(what: Callable[[], object], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """A supervisor without processes and without an embedded database."""
    for name, program in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    made = Supervisor(Settings(home=tmp_path / "home", database_url="postgresql://nobody", drain_s=0))
    made.settings.home.mkdir()
    made.children.clear()
    return made


@contextmanager
def running(supervisor: Supervisor, *modules: str) -> Iterator[list[_Child]]:
    supervisor.children += [_Child(name, [name]) for name in modules]
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor.children
    finally:
        supervisor.stop()
        thread.join(60)
    assert not thread.is_alive()
    assert all(child.process is None or child.process.poll() is not None for child in supervisor.children)


def test_the_processes_of_an_installation(tmp_path: Path) -> None:
    made = Supervisor(Settings(home=tmp_path, listener_processes=2, web_processes=2, worker_processes=2))
    assert [child.name for child in made.children] == [
        *("listener", "listener-2", "web", "web-2", "relay", "indexer", "transfer", "worker", "worker-2")
    ]


def test_a_process_that_is_killed_comes_back(supervisor: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    with running(supervisor, "sleeper") as (child,):
        eventually(lambda: child.process)
        first = child.process
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: child.process and child.process is not first)
        assert (child.restarts, child.last_exit) == (1, -signal.SIGKILL)
    assert "sleeper ended with exit status -9; it starts again in" in caplog.text


def test_a_process_that_cannot_stay_up_is_named_with_its_last_words(supervisor: Supervisor) -> None:
    class Nobody:
        def all(self) -> tuple[()]:
            return ()

    with (
        running(supervisor, "sleeper", "crasher"),
        pytest.raises(RadirError, match="crasher does not stay up: error: the model is of yesterday") as caught,
    ):
        up._wait_until_ready(supervisor.settings, supervisor, Nobody())  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_pauses_between_restarts_grow_to_a_bound(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.5)
    child = _Child("crasher", ["crasher"])
    pauses = []
    for _ in range(8):
        supervisor._pause(child, 0.0, "ended")
        pauses.append(child.not_before)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    child.quick_ends = 5000  # a night of them
    supervisor._pause(child, 0.0, "ended")
    assert child.not_before == 30
    supervisor._pause(child, 1000.0, "ended")
    assert child.not_before == 1000.5, "one that lived for long starts again soon"


def test_what_cannot_be_started_is_tried_again(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    refusals = [OSError(12, "Cannot allocate memory")] * 2

    def sometimes(*arguments: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return popen(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", sometimes)
    with running(supervisor, "sleeper") as (child,):
        eventually(lambda: child.process)


def test_a_supervisor_that_breaks_leaves_nobody_waiting(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(supervisor, "sleeper") as (child,):
        eventually(lambda: child.process)

        def broken(child: _Child) -> None:
            raise RuntimeError

        monkeypatch.setattr(supervisor, "_tend", broken)
        assert supervisor.stopping.wait(30), "the stack would hang without its processes"
    assert supervisor.broken and "the supervisor failed" in caplog.text


def test_a_full_disk_for_its_own_notes_stops_nothing(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_state", full)
    with running(supervisor, "sleeper") as (child,):
        eventually(lambda: child.process)
        assert not supervisor.stopping.is_set()


def test_a_database_that_does_not_start_is_tried_again(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor.settings = Settings(home=supervisor.settings.home)
    monkeypatch.setattr(module, "_DATABASE_TICK_S", 0.0)
    monkeypatch.setattr(module, "embedded_pid", lambda home: None)
    failures = [OSError(28, "No space left on device"), StorageFailed()]

    def start(home: Path) -> str:
        if failures:
            raise failures.pop()
        return ""

    monkeypatch.setattr(module, "start_embedded", start)
    with running(supervisor, "sleeper") as (child,):
        eventually(lambda: supervisor.database_restarts > 3 and child.process)
        assert not supervisor.stopping.is_set()


def test_a_database_that_another_process_started_again_counts_as_restarted(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that starts the database itself may be quicker than the supervisor's next check."""
    supervisor.settings = Settings(home=supervisor.settings.home)
    server = [1000]
    monkeypatch.setattr(module, "_DATABASE_TICK_S", 0.0)
    monkeypatch.setattr(module, "embedded_pid", lambda home: server[0])
    with running(supervisor, "sleeper"):
        eventually(lambda: supervisor._database_pid == 1000)
        assert supervisor.database_restarts == 0
        for restarts in (1, 2):
            server[0] += 1
            eventually(lambda: supervisor.database_restarts == restarts)  # noqa: B023


def test_a_process_that_does_not_listen_is_ended_by_force(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_S", 0.2)
    with running(supervisor, "stubborn") as (child,):
        log = supervisor.log_of("stubborn")
        eventually(lambda: log.exists() and "deaf" in log.read_text())
        process = child.process
    assert process is not None and process.returncode == -signal.SIGKILL


def test_a_log_does_not_outgrow_its_bound(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_BYTES", 20_000)
    with running(supervisor, "talker"):
        log = supervisor.log_of("talker")
        eventually(lambda: log.with_suffix(".log.1").exists())
        size = log.stat().st_size
        eventually(lambda: log.stat().st_size != size)
        assert b"\0" not in log.read_bytes(), "it goes on at the new end"


@dataclass
class Row:
    pid: int
    silent_s: float
    name: str = "sleeper"


def test_a_row_of_an_earlier_run_with_the_same_number_is_not_readiness(supervisor: Supervisor) -> None:
    """In a container the numbers come again in the same order."""
    asked = []

    class Rows:
        def all(self) -> list[Row]:
            (child,) = supervisor.children
            asked.append(child)
            pid = child.process.pid if child.process else 0
            return [Row(pid, 0.0 if len(asked) > 3 else 3600.0), Row(pid, 0.0, "sleeper@elsewhere")]

    with running(supervisor, "sleeper"):
        up._wait_until_ready(supervisor.settings, supervisor, Rows())  # type: ignore[arg-type]
    assert len(asked) > 3


def test_a_slow_start_is_told_of_and_waited_for(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    class Rows:
        def all(self) -> list[Row]:
            (child,) = supervisor.children
            asked.append(child)
            return [Row(child.process.pid, 0.0)] if child.process and len(asked) > 3 else []

    monkeypatch.setattr(up, "READY_S", 0.0)
    with running(supervisor, "sleeper"):
        up._wait_until_ready(supervisor.settings, supervisor, Rows())  # type: ignore[arg-type]
        said = capsys.readouterr().err
        assert said.count("sleeper") == 1 and str(supervisor.settings.home / "logs") in said
        monkeypatch.setattr(up, "_GIVE_UP_S", 0.3)
        asked.clear()
        monkeypatch.setattr(Rows, "all", lambda _: [])
        with pytest.raises(RadirError, match="sleeper did not say"):
            up._wait_until_ready(supervisor.settings, supervisor, Rows())  # type: ignore[arg-type]


def test_being_stopped_while_starting_ends_the_wait(supervisor: Supervisor) -> None:
    class Rows:
        def all(self) -> list[Any]:
            raise AssertionError("nobody is waited for")

    supervisor.stop()
    up._wait_until_ready(supervisor.settings, supervisor, Rows())  # type: ignore[arg-type]
    assert supervisor.stopping.is_set()


def test_a_taken_port_is_named_with_its_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"web_port: 127.0.0.1:{port} .*--web-port"):
            up.check_free("web_port", "127.0.0.1", port)
    up.check_free("web_port", "127.0.0.1", port)


def test_a_port_below_1024_is_for_systemd_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    with pytest.raises(SettingError, match=r"listener_port: .*:104 .*Permission denied.*install-service --sockets"):
        up.check_free("listener_port", "0.0.0.0", 104)


def test_nothing_is_read_of_a_supervisor_that_was_killed(supervisor: Supervisor) -> None:
    """Its state file remains, and the process ids in it may belong to others by now; here one is ours."""
    with running(supervisor, "sleeper") as (child,):
        eventually(lambda: child.process and (supervisor.settings.home / "supervisor.json").exists())
        assert read_state(supervisor.settings) is None, "nobody holds the lock"


def test_a_process_with_wrong_settings_is_named_at_once(supervisor: Supervisor) -> None:
    class Nobody:
        def all(self) -> tuple[()]:
            return ()

    began = time.monotonic()
    with (
        running(supervisor, "sleeper", "misled"),
        pytest.raises(SettingError, match=r"^misled: weights.safetensors was altered$"),
    ):
        up._wait_until_ready(supervisor.settings, supervisor, Nobody())  # type: ignore[arg-type]
    assert supervisor.children[1].restarts <= 2 and time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("url", "installed", "complaint"),
    [
        ("", False, None),
        ("redis://queue/0", True, None),
        ("redis://queue/0", False, r"pip install -e '\.\[redis\]' in the clone"),
        ("rediss+sentinel://queue", False, "needs a missing package"),
        ("amqp://queue//", False, None),
        ("sqs://queue", True, "sqs:// is none of"),
    ],
)
def test_a_broker_that_nobody_could_use_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, installed: bool, complaint: str | None
) -> None:
    monkeypatch.setattr(up, "find_spec", lambda name: object() if installed else None)
    if complaint is None:
        up.check_broker(url)
    else:
        with pytest.raises(SettingError, match=complaint):
            up.check_broker(url)


def test_a_bundle_that_was_altered_is_refused_before_anything_starts(tmp_path: Path) -> None:
    whole = default_bundles()[ImageKind.CXR]
    altered = tmp_path / "altered"
    shutil.copytree(whole, altered)
    weights = bytearray((altered / "weights.safetensors").read_bytes())
    weights[500] ^= 1
    (altered / "weights.safetensors").write_bytes(weights)
    with pytest.raises(SettingError, match=r"^models: .*altered: weights.safetensors was altered$") as refused:
        check_bundles([str(whole), str(altered)])  # a child loads the network's libraries: one for both
    assert "\n" not in str(refused.value)
