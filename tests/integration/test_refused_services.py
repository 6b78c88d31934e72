"""Databases, brokers and buckets that let us not in: one plain line says which and why, without the password."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from radir_pacs.catalogue import Catalogue, migrate
from radir_pacs.catalogue.connecting import gave_up
from radir_pacs.cli import main
from radir_pacs.cli.diagnosis import Level, services
from radir_pacs.cli.up import broker_silence
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import SettingError, StorageFailed
from tests.conftest import Maintenance, free_port
from tests.integration.listening import wait_for
from tests.services import need, need_module

SECRET = "s3cret-pw"
CORRECT = "; start it, or correct database_url"


@pytest.fixture
def guarded(postgres: str) -> Iterator[str]:
    """Connection string of a user who needs a password, with another one."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        file = Path(str(conninfo_to_dict(postgres)["host"])) / "pg_hba.conf"  # its socket is in its data folder
        before = file.read_text()
        connection.execute("DROP ROLE IF EXISTS guarded")
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        try:
            file.write_text(f"local all guarded scram-sha-256\n{before}")
            connection.execute("SELECT pg_reload_conf()")
            url = make_conninfo(postgres, user="guarded", password=SECRET)
            wait_for(lambda: not lets_in(url))  # the server reads the file a moment later
            yield url
        finally:
            file.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP ROLE guarded")


def lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(params=["host", "port", "database", "password"])
def refused(request: pytest.FixtureRequest, postgres: str) -> tuple[str, str]:
    """A database_url that is wrong in one thing, and what is said of it."""
    port = free_port()
    match request.param:
        case "host":
            return f"postgresql://radir:{SECRET}@nowhere.invalid/radir", "radir@nowhere.invalid/radir cannot be used: "
        case "port":
            url = f"postgresql://radir:{SECRET}@127.0.0.1:{port}/radir"
            return url, f"radir@127.0.0.1:{port}/radir cannot be used: Connection refused"
        case "database":
            return make_conninfo(postgres, dbname="nothing"), 'database "nothing" does not exist'
    return request.getfixturevalue("guarded"), 'password authentication failed for user "guarded"'


@pytest.mark.parametrize("command", [("status",), ("problems",), ("tokens", "list")])
def test_a_database_that_refuses_is_told_in_one_line(
    command: tuple[str, ...],
    refused: tuple[str, str],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, why = refused
    for name, value in to_environment(replace(settings, database_url=url)).items():
        monkeypatch.setenv(name, value)
    assert main(list(command)) == 1
    check_line(capsys.readouterr().err, why)


@pytest.mark.parametrize("command", [("up",), ("serve", "relay")])
def test_a_role_tells_it_too(command: tuple[str, ...], guarded: str, settings: Settings) -> None:
    done = radir(replace(settings, database_url=guarded), *command)
    assert done.returncode == 1, "it may be let in later"
    check_line(done.stderr, 'password authentication failed for user "guarded"')


def check_line(said: str, why: str) -> None:
    (line,) = said.splitlines()
    assert line.startswith("error: the database ") and why in line and line.endswith(CORRECT), line
    assert SECRET not in line and "Error" not in line


def radir(settings: Settings, *command: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where nobody has set up logging."""
    return subprocess.run(
        [sys.executable, "-m", "radir_pacs.cli", *command],
        env=os.environ | to_environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_doctor_tells_it_once_and_libraries_are_silent(settings: Settings, refused: tuple[str, str]) -> None:
    url, why = refused
    done = radir(replace(settings, database_url=url), "doctor")
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.count(why) == 1 and SECRET not in done.stdout
    assert "start it, or correct database_url" in done.stdout


@pytest.mark.parametrize("url", [f"postgresql://u:{SECRET}@part@host/radir", f"postgresql://u:{SECRET}/x@host/radir"])
def test_a_password_that_breaks_the_url_is_not_shown(url: str, settings: Settings) -> None:
    with pytest.raises(SettingError, match=r"^database_url: .*%40 and %2F") as wrong:
        Catalogue.open(replace(settings, database_url=url))
    assert SECRET not in str(wrong.value)


def test_a_user_who_may_make_no_tables_is_told_so(postgres: str, database_url: str, settings: Settings) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE radir_empty")
        connection.execute("CREATE ROLE modest LOGIN")
    try:
        modest = make_conninfo(postgres, dbname="radir_empty", user="modest")
        with pytest.raises(StorageFailed, match="its user may not do that: make it the owner of the database"):
            Catalogue.open(replace(settings, database_url=modest))
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("DROP DATABASE radir_empty")
            connection.execute("DROP ROLE modest")
    assert gave_up(psycopg.OperationalError("lost")) == "the database did not answer"
    assert conninfo_to_dict(database_url)["dbname"]


def test_a_broker_that_refuses_is_told_without_its_password(settings: Settings, tmp_path: Path) -> None:
    need_module("redis")
    port, nobody = free_port(), free_port()
    server = subprocess.Popen(
        [need("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "right"],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert any("eady to accept connections" in line for line in server.stdout)  # returns at the first
        right = replace(settings, broker_url=f"redis://:right@127.0.0.1:{port}/0")
        assert broker_silence(right) == ""
        wrong = replace(settings, broker_url=f"redis://:{SECRET}@127.0.0.1:{port}/0")
        said = broker_silence(wrong)
        assert said.startswith(f"the broker at 127.0.0.1:{port} cannot be used: ") and "password" in said
        assert said.endswith("; start it, or correct broker_url") and SECRET not in said
        (found,) = services.broker(wrong)
        assert found.level is Level.ERROR and found.what == said
    finally:
        server.terminate()
        server.wait(20)
        server.communicate()
    said = broker_silence(replace(settings, broker_url=f"redis://:{SECRET}@127.0.0.1:{nobody}/0"))
    assert "Connection refused" in said and str(nobody) in said and SECRET not in said


def test_a_bucket_that_nobody_serves_is_found_by_doctor(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(services.object_store(settings)) == []
    nobody = f"http://127.0.0.1:{free_port()}"
    away = replace(
        settings, blob_store="s3://radir/x", s3_endpoint=nobody, s3_access_key_id="a", s3_secret_access_key="b"
    )
    monkeypatch.setattr("radir_pacs.storage.s3._TRIES", 0)
    (found,) = services.object_store(away)
    assert found.level is Level.ERROR and nobody in found.what and "bucket radir" in found.what
    assert "start it, or correct s3_endpoint" in found.what
    (wrong,) = services.object_store(replace(settings, blob_store="bucket"))
    assert wrong.level is Level.ERROR and "s3://bucket" in wrong.what


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@Word/More@127.0.0.1:1/db",
        f"postgresql://u:12/{SECRET}@host/db?user=me",
        f"dbname=postgresql://u:{SECRET}@host/db user=me",
    ],
)
def test_no_part_of_a_password_is_taken_for_an_address(url: str, settings: Settings) -> None:
    with pytest.raises(SettingError, match=r"^database_url: .*%40 and %2F") as wrong:
        Catalogue.open(replace(settings, database_url=url))
    assert not any(part in str(wrong.value) for part in (SECRET, "Word", "More"))


@pytest.mark.parametrize(
    "url",
    [
        f"redis://u:S3cr@t/{SECRET}@127.0.0.1:1/0",
        f"amqp://u:pa/{SECRET}@127.0.0.1:1//",
        f"redis://:12?{SECRET}@127.0.0.1:1/0",
        f"redis://:pw@h:12{SECRET}/0",
        f"amqp://u:12;{SECRET}@127.0.0.1//",
        f"u:{SECRET}@127.0.0.1",
    ],
)
def test_a_password_that_breaks_the_broker_url_is_not_shown(url: str, settings: Settings) -> None:
    (found,) = services.broker(replace(settings, broker_url=url))
    assert found.level is Level.ERROR and found.what.startswith("broker_url: ")
    assert not any(part in found.what for part in (SECRET, "S3cr", "pa/"))


def test_a_check_of_the_broker_that_fails_is_no_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    said = broker_silence(replace(settings, broker_url="redis://127.0.0.1:1/0?ssl_cert_reqs=bogus"))
    assert said.startswith("the broker cannot be used: broker_url is not understood")
    monkeypatch.setattr(sys, "executable", "false")
    said = broker_silence(replace(settings, broker_url="redis://127.0.0.1:1/0"))
    assert said.startswith("the broker cannot be used: its check ended with 1; start it")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_accepts_and_is_silent_is_told(scheme: str, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        said = broker_silence(replace(settings, broker_url=f"{scheme}://u:{SECRET}@127.0.0.1:{port}/0"))
    assert "cannot be used: " in said or "does not answer within" in said, said
    assert SECRET not in said


def test_a_check_that_does_not_end_is_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radir_pacs.cli.up._BROKER_S", 0.01)
    assert "the broker does not answer within" in broker_silence(replace(settings, broker_url="redis://127.0.0.1:1/0"))


def test_a_migration_that_fails_is_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = migrate.migrations()
    number = max(known) + 1
    monkeypatch.setattr(migrate, "migrations", lambda: known | {number: "SELECT missing FROM study"})
    with pytest.raises(StorageFailed, match=rf'^migration {number} failed: .*42703 \(column "missing" does not exist'):
        migrate.migrate(database_url)
    (record,) = (one for one in caplog.records if one.message == "a migration failed")
    assert record.exc_info and record.__dict__["version"] == number


def test_tests_go_on_when_one_lost_the_connection_that_makes_databases(postgres: str) -> None:
    with contextlib.closing(Maintenance(postgres)) as maintenance:
        with psycopg.connect(postgres, autocommit=True) as connection:
            maintenance.execute("SELECT 'radir_of_maintenance'")
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND query = 'SELECT ''radir_of_maintenance'''"
            ).fetchall()
        assert ended == [(True,)]
        maintenance.execute("CREATE DATABASE radir_made_after")
        maintenance.execute("DROP DATABASE radir_made_after")
