"""The home folder of a running installation: its lock, its state file, and what a killed supervisor left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from radir_pacs.cli import main
from radir_pacs.cli.state import end_orphans, holders, is_held, must_run, only_one, read_state, write_state
from radir_pacs.config import Settings
from radir_pacs.errors import NotReady, RadirError, SettingError

COMMAND = ["radir_pacs.listener", "--name", "listener"]
HOLD = "import sys; from radir_pacs.config import Settings; from radir_pacs.cli.state import only_one\n"
HOLD += "with only_one(Settings(home=sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def holder(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the home folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(settings.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def sleeper(home: Path, command: list[str] = COMMAND) -> subprocess.Popen[bytes]:
    """A process with such a command line and such settings, as `ps` shows them."""
    code = "import time; print(flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command],
        env=os.environ | {"RADIR_HOME": str(home)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


def test_a_home_has_one_supervisor_as_long_as_it_lives(settings: Settings, holder: subprocess.Popen[bytes]) -> None:
    write_state(settings, {"processes": []})
    assert is_held(settings) and read_state(settings) == {"processes": []}
    with pytest.raises(RadirError, match="is already running"), only_one(settings):
        pass
    must_run(settings)
    holder.kill()
    holder.wait()
    assert not is_held(settings) and read_state(settings) is None
    with only_one(settings):
        assert is_held(settings)


def test_sets_that_share_a_role_do_not_run_together(settings: Settings) -> None:
    with only_one(settings, "listener-relay"):
        for roles, what in (("relay-worker", "the relay"), ("listener", "the listener"), ("", "the listener")):
            with pytest.raises(RadirError, match=f"{what} is already running"), only_one(settings, roles):
                pass
        with only_one(settings, "web-worker"):
            assert is_held(settings, "web-worker") and not is_held(settings, "relay")
    with only_one(settings), pytest.raises(RadirError, match="the web is already"), only_one(settings, "web"):
        pass


def test_machines_that_share_a_home_run_the_same_roles(settings: Settings) -> None:
    with only_one(settings, "worker@gpu1"), only_one(settings, "worker@gpu-2.a"), only_one(settings, "relay-worker@c"):
        for number, roles in enumerate(("worker@gpu1", "worker@gpu-2.a", "relay-worker@c")):
            write_state(settings, {"processes": [number]}, roles)
        assert holders(settings) == ["relay-worker@c", "worker@gpu-2.a", "worker@gpu1"]
        assert sorted((read_state(settings) or {})["processes"]) == [0, 1, 2]
        for roles in ("worker@gpu1", "listener-worker@gpu1", "worker@c", ""):
            with pytest.raises(RadirError, match="is already running"), only_one(settings, roles):
                pass
    left = {file.name for file in settings.home.glob("*.lock")}
    assert not any("@" in name for name in left), "containers have a new name each time"
    with only_one(settings), pytest.raises(RadirError, match="the worker is"), only_one(settings, "worker@gpu1"):
        pass


def test_the_indexer_runs_once_whatever_machines_share_the_home(settings: Settings) -> None:
    with only_one(settings, "indexer@a"):
        with pytest.raises(RadirError, match="the indexer is already running"), only_one(settings, "web-indexer@b"):
            pass
        with only_one(settings, "web@b"):
            assert is_held(settings, "web@b")
    with only_one(settings, "web-indexer@b"):
        assert is_held(settings, "web-indexer@b")


def test_a_home_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError, match=r"home: .* cannot be used"), only_one(Settings(home=home)):
            pass


def test_what_a_killed_supervisor_left_is_ended_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    settings.home.mkdir()
    orphan, elsewhere, reused = sleeper(settings.home), sleeper(tmp_path), sleeper(settings.home, ["something", "else"])
    pids = [orphan.pid, elsewhere.pid, reused.pid, 2**22 + 1, None]
    state = {"processes": [{"name": str(pid), "command": COMMAND, "pid": pid} for pid in pids]}
    write_state(settings, state, "listener-hl7")
    try:
        with only_one(settings, "listener-hl7"), only_one(settings, "relay"):
            assert end_orphans(settings, "relay") == 0, "their supervisor lives"
        with only_one(settings):
            assert end_orphans(settings) == 1
            assert end_orphans(settings) == 0
        assert orphan.wait(30) is not None
        assert elsewhere.poll() is None and reused.poll() is None
    finally:
        for process in (orphan, elsewhere, reused):
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    "arguments",
    [["delete", "2.25.1"], ["complete", "2.25.1"], ["similar", "2.25.1"], ["feedback"]],
    ids=lambda a: str(a[0]),
)
def test_a_command_where_nothing_runs_makes_nothing(
    arguments: list[str], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a typing error in --home: no new installation, no database server that nobody stops."""
    assert main([*arguments, "--home", str(settings.home)]) == 1
    said = capsys.readouterr().err
    assert said == f"error: radir is not running in {settings.home}; start it with: radir up --home {settings.home}\n"
    assert not settings.home.exists()
    with pytest.raises(NotReady):
        must_run(settings)


def test_status_where_nothing_runs(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(settings.home)]) == 1
    assert "radir is not running in" in capsys.readouterr().out
    assert main(["status", "--json", "--home", str(settings.home)]) == 1
    assert json.loads(capsys.readouterr().out) == {"running": False, "home": str(settings.home), "processes": []}
    assert not settings.home.exists()


def test_a_new_home_folder_is_closed_to_others(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "parent" / "home")
    with only_one(settings):
        assert settings.home.stat().st_mode & 0o777 == 0o700
    settings.home.chmod(0o750)  # as an administrator has it
    with only_one(settings):
        assert settings.home.stat().st_mode & 0o777 == 0o750
