"""How pg_dump and pg_restore are called; that they work is shown where backups are made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from radir_pacs.catalogue import conninfo_of, postgres_clients
from radir_pacs.catalogue.database import unhurried
from radir_pacs.config import Settings

URL = "postgresql://radir:secret@db.example/radir?options=-c%20work_mem%3D8MB&sslmode=require"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the program was called with, its words and its environment."""
    program, told = tmp_path / "program", tmp_path / "told"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{told}\nenv >>{told}\n')
    program.chmod(0o755)
    monkeypatch.setattr(postgres_clients, "client_program", lambda _: str(program))
    return told


def test_neither_end_gives_up_a_dump_whose_target_stalls(told: Path, tmp_path: Path) -> None:
    conninfo = conninfo_of(Settings(home=tmp_path, database_url=URL))
    assert list(postgres_clients.dump(conninfo, "snapshot", without_rows_of=[])) == []
    assert_patient(told.read_text())
    postgres_clients.restore(conninfo, [])
    assert_patient(told.read_text())


def assert_patient(said: str) -> None:
    """Postgres heeds the last of several."""
    [options] = re.findall("PGOPTIONS=(.*)", said)
    assert re.findall(r"tcp_user_timeout=(\d+)", options)[-1] == "0"
    assert "tcp_keepalives_idle=6" in options and "work_mem=8MB" in options
    [database] = re.findall("--dbname=(.*)", said)
    ours = conninfo_to_dict(database)
    assert ours.pop("dbname") == "radir"
    assert ours == {"keepalives_idle": "6", "keepalives_interval": "3", "keepalives_count": "3"}
    assert "PGPASSWORD=secret" in said and "PGSSLMODE=require" in said


def test_a_connection_of_a_backup_waits_for_either_end(tmp_path: Path) -> None:
    given = conninfo_to_dict(unhurried(conninfo_of(Settings(home=tmp_path, database_url=URL)), timezone="UTC"))
    assert given["tcp_user_timeout"] == "0"
    assert str(given["options"]).endswith("-c tcp_user_timeout=0 -c timezone=UTC")
    assert "work_mem=8MB" in str(given["options"]) and given["keepalives_idle"] == "6"
