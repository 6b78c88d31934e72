"""Two releases side by side: the next one has migrated the database, this one goes on, starts, and leaves what it
does not know alone.

The next release is this program with one more migration, which does to every table what a migration may do that
declares which earlier release works with it.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from radir_pacs import __version__
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue import database as database_module
from radir_pacs.catalogue import migrate as migrate_module
from radir_pacs.catalogue.database import Connection, Database
from radir_pacs.catalogue.migrate import migrate, migrations, newest_schema
from radir_pacs.cli.diagnosis import services as diagnosis
from radir_pacs.cli.diagnosis.results import Level
from radir_pacs.cli.status import look
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from radir_pacs.types import JobKind, StudyState
from tests.catalogue_material import add, claimed, encoding, header, register

NEXT = newest_schema() + 1
A_COLUMN_MORE = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT c.relname FROM pg_class AS c
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'schema_version'
    LOOP EXECUTE format('ALTER TABLE %I ADD COLUMN of_the_next_release text NOT NULL DEFAULT ''new''', name); END LOOP;
END $$;
CREATE TABLE only_in_the_next_release (id bigint PRIMARY KEY);
"""


def upgrade(database_url: str, declared: str) -> None:
    """As the first process of the next release does."""
    known = migrations() | {NEXT: declared + A_COLUMN_MORE}
    with patch.object(migrate_module, "migrations", lambda: known):
        migrate(database_url)


@pytest.fixture
def upgraded(catalogue: Catalogue, settings: Settings) -> Callable[[], None]:
    return lambda: upgrade(settings.database_url, f"-- works from: {newest_schema()}\n")


def test_what_runs_goes_on_while_the_database_is_migrated(catalogue: Catalogue, upgraded: Callable[[], None]) -> None:
    """A prepared statement whose rows got a column more fails in Postgres, on every connection that prepared it."""
    add(catalogue, header())
    for _ in range(10):  # from the fifth on a statement is prepared
        assert catalogue.studies.get("2.25.1").state is StudyState.RECEIVING
        assert catalogue.instances.get("2.25.1.1.1").study_uid == "2.25.1"
    upgraded()
    told = 0
    for _ in range(10):
        try:
            assert catalogue.studies.get("2.25.1").state is StudyState.RECEIVING
            assert catalogue.instances.get("2.25.1.1.1").study_uid == "2.25.1"
        except StorageFailed:  # as if the database had been away: every caller tries again
            told += 1
    assert told <= 1
    add(catalogue, header(2))
    assert catalogue.studies.get("2.25.2").instance_count == 1


def test_all_threads_are_answered_and_share_one_pool_after_a_migration(
    settings: Settings, upgraded: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[ConnectionPool[Connection]] = []

    class Recorded(ConnectionPool[Connection]):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            pools.append(self)

    def rows(connection: Connection) -> int:
        return len(connection.execute(b"SELECT * FROM study", prepare=True).fetchall())

    def held(connection: Connection) -> int:
        holding.release()
        assert may_read.wait(60)
        return rows(connection)

    holding, may_read, deadline = Semaphore(0), Event(), time.monotonic() + 60
    monkeypatch.setattr(database_module, "ConnectionPool", Recorded)
    with contextlib.closing(Database(settings.database_url, connections=10)) as database:
        with contextlib.ExitStack() as stack:  # each of its connections prepares the statement
            for connection in [stack.enter_context(database.transaction()) for _ in range(10)]:
                connection.execute(b"SELECT * FROM study", prepare=True)
        upgraded()
        with ThreadPoolExecutor(12) as threads:
            read = [threads.submit(database.read, held) for _ in range(12)]
            assert all(holding.acquire(timeout=60) for _ in range(10))
            while pools[0].get_stats().get("requests_waiting", 0) < 2:
                assert time.monotonic() < deadline, "two threads should wait for a connection"
                time.sleep(0.01)
            may_read.set()
            assert [one.result(60) for one in read] == [0] * 12
        assert [pool.closed for pool in pools] == [True, False]
    assert pools[-1].closed


def test_this_release_starts_and_works_on_the_next_ones_database(settings: Settings) -> None:
    upgrade(settings.database_url, f"-- works from: {newest_schema()}\n")
    with Catalogue.open(settings) as catalogue:
        register(catalogue)
        add(catalogue, header())
        assert catalogue.studies.complete_now("2.25.1")
        _, revision = catalogue.studies.revision_of("2.25.1")
        assert catalogue.encodings.save(encoding(), revision, claimed(catalogue))
        assert catalogue.studies.get("2.25.1").state is StudyState.ENCODED


def test_a_release_that_the_next_one_leaves_behind_is_refused_with_the_reason(settings: Settings) -> None:
    upgrade(settings.database_url, "")
    with pytest.raises(StorageFailed, match=rf"version {NEXT}.*knows {newest_schema()}"):
        Catalogue.open(settings)


def test_only_one_release_side_by_side(settings: Settings) -> None:
    """What a later migration needs holds, whatever the ones before it declared."""
    upgrade(settings.database_url, f"-- works from: {newest_schema()}\n")
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("INSERT INTO schema_version (version, works_from) VALUES (%s, %s)", [NEXT + 1, NEXT])
    with pytest.raises(StorageFailed, match=f"at least {NEXT}"):
        Catalogue.open(settings)


def test_jobs_and_reasons_of_the_next_release_are_left_to_it(catalogue: Catalogue, settings: Settings) -> None:
    add(catalogue, header())
    insert = (
        "INSERT INTO job (kind, key, max_attempts, state, lease_until, token, attempt, error, reason_code)"
        " VALUES ('dream', %s, 3, %s, now() - interval '1 hour', 1, 1, 'x', 'NOT_YET_KNOWN') RETURNING id"
    )
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        ids = {}
        for state in ("PENDING", "FAILED", "RUNNING"):
            row = connection.execute(insert, [f"of/sheep/{state}", state]).fetchone()
            assert row is not None
            ids[state] = row[0]
    assert catalogue.jobs.claim(ids["PENDING"], "old worker") is None
    assert catalogue.jobs.get(ids["PENDING"]) is None
    assert catalogue.jobs.sweep() == 0
    assert not catalogue.jobs.failed() and not catalogue.jobs.retried()
    assert not [count for count in catalogue.overview().jobs if count.kind not in JobKind]
    assert look(settings, catalogue)["jobs_of_later_release"] == 2, "its open ones, after going back to this one"
    assert catalogue.jobs.retry_failed() == 0
    assert ids["PENDING"] not in catalogue.jobs.to_announce(10)
    with psycopg.connect(settings.database_url) as connection:
        rows = connection.execute("SELECT state, attempt FROM job WHERE kind = 'dream' ORDER BY id").fetchall()
    assert rows == [("PENDING", 1), ("FAILED", 1), ("RUNNING", 1)]


def test_doctor_tells_a_newer_database_and_processes_of_another_version(
    catalogue: Catalogue, settings: Settings, upgraded: Callable[[], None]
) -> None:
    catalogue.processes.say_alive("worker@new", 7, "ready")
    assert [row.version for row in catalogue.processes.all()] == [__version__]
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("UPDATE process SET version = '99.0'")
    upgraded()
    found = {result.code: result for result in diagnosis.database(settings)}
    assert found["SCHEMA"].level is Level.WARNING and "finish the upgrade" in found["SCHEMA"].advice
    assert found["PROCESS_VERSION"].level is Level.WARNING and "worker@new" in found["PROCESS_VERSION"].what


ONLY_ADDS = re.compile(r"\b(DROP (TABLE|COLUMN|FUNCTION|VIEW)|RENAME|ALTER COLUMN|SET NOT NULL|CHECK|TRUNCATE)\b", re.I)


def faults(version: int, sql: str) -> list[str]:
    """What a migration does that a release it declares to work with cannot know."""
    match = migrate_module.WORKS_FROM.match(sql)
    if match is None:
        return []
    named = [] if int(match[1]) < version else ["works from itself"]
    bare = re.sub(r"--[^\n]*", "", sql)
    required = re.findall(r"ADD COLUMN[^,;]*NOT NULL(?![^,;]*DEFAULT)", bare, re.I)
    return named + [found[0] for found in ONLY_ADDS.finditer(bare)] + required


def test_a_migration_that_declares_an_earlier_release_only_adds() -> None:
    declared = "-- works from: 48\n"
    assert faults(49, declared + "ALTER TABLE a ADD COLUMN b text; CREATE TABLE c (d text NOT NULL);") == []
    assert faults(49, declared + "ALTER TABLE a ADD COLUMN b text NOT NULL;")
    assert faults(49, declared + "ALTER TABLE a DROP COLUMN b;") == ["DROP COLUMN"]
    assert faults(48, declared) == ["works from itself"]
    assert {version: found for version, sql in migrations().items() if (found := faults(version, sql))} == {}
