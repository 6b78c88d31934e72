"""The embedded Postgres is found, started once, and started again after any death."""

from __future__ import annotations

import os
import shutil
import signal
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


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="radir-pg-"))
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_it_survives_kill_9_with_what_was_committed(home: Path) -> None:
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


def test_a_pid_file_that_names_a_stranger_is_not_believed(home: Path) -> None:
    embedded.start(home)
    embedded.stop(home)
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


def test_a_process_that_moved_its_temporary_files_finds_the_same_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("a" * 100)  # too long for a socket: its folder stands among the temporary files
    before = embedded._conninfo(home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert embedded._conninfo(home) == before
