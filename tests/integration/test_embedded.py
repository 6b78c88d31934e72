"""The embedded Postgres is found, started once, and started again after any death."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from radir_pacs.catalogue import Catalogue, embedded
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from tests.catalogue_material import add, header
from tests.conftest import memory_folder


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty folder."""
    folder = Path(tempfile.mkdtemp(prefix="radir-pg-", dir=memory_folder()))
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """A home folder whose server ran once and was stopped: setting up a database takes longer than copying it."""
    folder = Path(tempfile.mkdtemp(prefix="radir-pg-", dir=memory_folder()))
    embedded.start(folder)
    embedded.stop(folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def set_up(stopped: Path, home: Path) -> Path:
    """A home folder of this test's own whose server was stopped."""
    subprocess.run(["cp", "-a", str(stopped / "postgres"), str(home)], check=True)
    return home


def pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_it_survives_kill_9_with_what_was_committed(set_up: Path) -> None:
    home = set_up
    conninfo = embedded.start(home)
    with psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(pid(home), signal.SIGKILL)
    assert embedded.start(home) == conninfo
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_the_catalogue_comes_back_with_it(home: Path) -> None:
    with Catalogue.open(Settings(home=home)) as catalogue:
        add(catalogue, header())
        os.kill(pid(home), signal.SIGKILL)
        with pytest.raises(StorageFailed):
            for _ in range(100):  # the backend may answer once more before it learns
                catalogue.studies.get("2.25.1")
        catalogue.revive()
        assert catalogue.studies.get("2.25.1").instance_count == 1


def test_a_pid_file_that_names_a_stranger_is_not_believed(set_up: Path) -> None:
    home = set_up
    lines = [str(os.getpid()), str(home / "postgres"), "0", "5432", "", "", "0 0", "ready"]
    (home / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    with psycopg.connect(embedded.start(home)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_home_too_deep_or_odd_for_a_socket_works(home: Path) -> None:
    deep = home / "with space" / ("x" * 90)
    deep.mkdir(parents=True)
    try:
        with ThreadPoolExecutor(3) as pool:
            conninfos = set(pool.map(lambda _: embedded.start(deep), range(3)))
        [conninfo] = conninfos
        with psycopg.connect(conninfo) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            assert connection.execute("SHOW log_min_error_statement").fetchone() == ("panic",)
    finally:
        embedded.stop(deep)


def test_stopping_what_does_not_run_is_nothing(home: Path) -> None:
    embedded.stop(home)
    assert not (home / "postgres" / "PG_VERSION").exists()


def test_a_process_that_moved_its_temporary_files_finds_the_same_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("a" * 100)  # too long for a socket: its folder stands among the temporary files
    before = embedded._conninfo(home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert embedded._conninfo(home) == before


def assert_it_runs(home: Path) -> None:
    with psycopg.connect(embedded.start(home)) as connection:
        assert connection.execute("SELECT lower('MÜLLER ИВАНОВ'), 'ÄNNE' ILIKE 'änne'").fetchone() == (
            "müller иванов",
            True,
        )


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"},
        {"LC_ALL": "C"},
        {"LC_ALL": "xx", "LANG": "", "LANGUAGE": "fr"},
        {"PGSERVICE": "hospital"},
        {"PGCLIENTENCODING": "LATIN1"},
        {"PGOPTIONS": "-c nonsense=1", "PGHOST": "10.0.0.1", "PGPORT": "1", "PGUSER": "x", "PGDATA": "/nowhere"},
        {"PGSSLMODE": "verify-full", "PGREQUIRESSL": "1", "PGTZ": "Mars", "PGDATESTYLE": "none"},
        {"TZ": "Nowhere/Never"},
    ],
    ids=lambda variables: "-".join(variables),
)
def test_it_starts_whatever_the_environment_says(
    home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_it_runs(home)


@pytest.mark.parametrize("content", ["", "\n", "nonsense\n", "0\n", "99999999\n", "1\n"])
def test_a_pid_file_after_a_power_cut_is_no_obstacle(set_up: Path, content: str) -> None:
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (set_up / "postgres" / name).write_text(content)
    assert_it_runs(set_up)


def test_the_lock_of_a_socket_that_names_a_living_stranger_is_no_obstacle(set_up: Path) -> None:
    (set_up / "postgres" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    (set_up / "postgres" / ".s.PGSQL.5432").touch()
    assert_it_runs(set_up)


def test_a_server_whose_pid_file_was_emptied_is_not_doubled(set_up: Path) -> None:
    home = set_up
    embedded.start(home)
    running = pid(home)
    (home / "postgres" / "postmaster.pid").write_text("")
    assert embedded._lingers(home / "postgres")
    assert_it_runs(home)
    os.kill(running, signal.SIGQUIT)  # it ends when it finds the file gone or changed, or now


def test_who_waits_for_a_server_that_is_silent_is_told(
    set_up: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embedded.start(set_up)
    pid = embedded.server_pid(set_up)
    assert pid is not None
    monkeypatch.setattr(embedded, "_TOLD_AFTER_S", 0.0)
    monkeypatch.setattr(embedded, "START_DEADLINE_S", 4.0)  # an attempt takes three seconds
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StorageFailed, match="does not answer"):
            embedded.start(set_up)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert caplog.text.count("does not answer yet") == 1


def test_setting_up_that_was_interrupted_begins_anew(home: Path) -> None:
    leftover = home / "postgres.new1234"
    leftover.mkdir()
    (leftover / "PG_VERSION").write_text("18\n")
    (home / "postgres").mkdir()
    assert_it_runs(home)
    assert not leftover.exists()


def test_what_it_cannot_use_is_said_in_one_line(home: Path) -> None:
    data = home / "postgres"
    data.mkdir()
    (data / "somebodys.file").touch()
    with pytest.raises(StorageFailed, match="holds no complete database") as said:
        embedded.start(home)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StorageFailed, match="is of Postgres 16, not 18"):
        embedded.start(home)
    assert "\n" not in str(said.value)


def test_why_the_server_refuses_is_said_in_one_line(set_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "REFUSES_S", 0.5)
    with (set_up / "postgres" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(StorageFailed, match=r"does not start: configuration file .* contains errors") as said:
        embedded.start(set_up)
    assert "\n" not in str(said.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a file system")
def test_a_full_disk_is_said_in_one_line(home: Path) -> None:
    full = home / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(full)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(StorageFailed, match="No space left on device") as said:
            embedded.start(full)
        assert "\n" not in str(said.value)
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)


def test_who_gives_up_does_not_wait(home: Path) -> None:
    with pytest.raises(StorageFailed, match="stopped before"):
        embedded.start(home, given_up=lambda: True)


def test_who_gives_up_after_the_launch_leaves_no_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_silence", lambda conninfo: "it does not answer yet")
    with pytest.raises(StorageFailed, match="stopped before"):
        embedded.start(home, given_up=lambda: (home / "postgres" / "log").exists())
    assert not embedded._lingers(home / "postgres")


@pytest.mark.skipif(os.geteuid() != 0, reason="Postgres runs as us")
def test_folders_above_the_data_stay_as_private_as_they_were(home: Path) -> None:
    parent = home / "private"
    deep = parent / "home"
    deep.mkdir(parents=True)
    for folder in (parent, deep):
        folder.chmod(0o700)
    try:
        assert_it_runs(deep)
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in (home, parent, deep)] == [0o700] * 3
        assert {folder.stat().st_uid for folder in (home, parent, deep)} == {0}
        assert stat.S_IMODE((deep / "postgres").stat().st_mode) == 0o700
    finally:
        embedded.stop(deep)


def test_no_shell_reads_the_name_of_a_home(home: Path) -> None:
    odd = home / "a`touch ran`$(touch ran)\"'; touch ran; b"
    odd.mkdir()
    try:
        assert_it_runs(odd)
    finally:
        embedded.stop(odd)
    assert not list(home.rglob("ran")) and not Path("ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user id")
def test_a_user_id_without_a_name_is_enough(home: Path) -> None:
    python = "/usr/bin/python3.11"  # ours may stand below root's own folder
    if not Path(python).exists() or sys.version_info[:2] != (3, 11):
        pytest.skip("no Python that anybody may use")
    home.chmod(0o755)
    mine = home / "mine"
    mine.mkdir()
    os.chown(mine, 54321, 54321)
    program = (
        "import sys; from pathlib import Path; from radir_pacs.catalogue import embedded\n"
        "home = Path(sys.argv[1]); embedded.start(home); print('up'); embedded.stop(home)"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [python, "-c", program, str(mine)],
        user=54321,
        group=54321,
        extra_groups=[],
        env={"PYTHONPATH": os.pathsep.join((str(Path(embedded.__file__).parents[2]), paths)), "PATH": os.defpath},
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert done.returncode == 0 or "which has no name" in done.stderr, done.stderr
    assert done.returncode != 0 or done.stdout == "up\n"
