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


QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.S)  # literals and comments
UNREADABLE = re.compile(r"[\"$\\&]|\bE''", re.I)  # names in quotes, and literals in other notations
VALUE = r"(?:''(?:::\w+(?:\[\])?)?|-?\d+(?:\.\d+)?|true|false|now\(\)|clock_timestamp\(\))"
TYPE = r"(?:text|smallint|integer|int|bigint|real|double precision|boolean|date|timestamptz|uuid|bytea|jsonb)(?:\[\])?"
OPTIONAL = rf"(?: NULL| NOT NULL DEFAULT {VALUE}| DEFAULT {VALUE}(?: NOT NULL)?)?"
COLUMN = re.compile(rf"ADD (?:COLUMN )?(?:IF NOT EXISTS )?\w+ {TYPE}{OPTIONAL}", re.I)
ALTER = re.compile(r"ALTER TABLE \w+ (.+)", re.I)
TABLE = re.compile(r"CREATE TABLE \w+ ?\((.*)\)", re.I)
REFERENCE = re.compile(r"\bREFERENCES\b( \w+(?: ?\(\w+(?:, ?\w+)*\))? ON DELETE CASCADE\b)?", re.I)
INDEX = re.compile(  # no function or cast, which could fail on a row that the older release writes
    r"CREATE INDEX \w+ ON \w+ (?:USING \w+ )?\([\w ,]+\)(?: WHERE (?:[\w '<>=!]|\bIN \(''(?:, ?'')*\))+)?", re.I
)


def parts(listed: str) -> list[str]:
    """What stands between the commas outside of parentheses; nothing where these do not match."""
    depth, found = 0, [""]
    for letter in listed:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return []
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [] if depth else [part.strip() for part in found]


def only_adds(statement: str) -> bool:
    """Whether a release that does not know the statement goes on as before; of few statements this can be said.

    A column is optional. The rows of a new table, which the older release does not write, never keep it from deleting.
    """
    if UNREADABLE.search(statement):
        return False
    if altered := ALTER.fullmatch(statement):
        columns = parts(altered[1])
        return bool(columns) and all(COLUMN.fullmatch(column) for column in columns)
    if made := TABLE.fullmatch(statement):
        return bool(parts(made[1])) and all(cascade[1] for cascade in REFERENCE.finditer(made[1]))
    return INDEX.fullmatch(statement) is not None


def faults(version: int, sql: str) -> list[str]:
    """The statements of a migration that a release it declares to work with may not survive."""
    match = migrate_module.WORKS_FROM.match(sql)
    if match is None:
        return []
    bare = QUOTED.sub(lambda found: "''" if found[0].startswith("'") else " ", sql)
    statements = [" ".join(one.split()) for one in bare.split(";") if one.strip()]
    named = [] if int(match[1]) < version else ["works from itself"]
    return named + [one for one in statements if not only_adds(one)]


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE a ADD COLUMN b text; CREATE TABLE c (d text NOT NULL);",
        "ALTER TABLE a ADD b timestamptz, ADD COLUMN IF NOT EXISTS c text[] NOT NULL DEFAULT '{}';",
        "alter table a add column b text default 'x; y -- z' not null -- why\n;",
        "CREATE TABLE c (id bigint PRIMARY KEY, study_uid text REFERENCES study (study_uid) ON DELETE CASCADE);",
        "CREATE TABLE c (id bigint CHECK (id > 0), study_uid text UNIQUE REFERENCES study ON DELETE CASCADE);",
        "CREATE INDEX i ON a (b DESC NULLS LAST, c); CREATE INDEX i ON a USING gin (b jsonb_path_ops);",
        "CREATE INDEX i ON a (b) WHERE c IN ('x', 'y') AND d <> '';",
    ],
)
def test_what_an_older_release_works_with_may_be_declared(sql: str) -> None:
    assert faults(49, f"-- works from: 48\n{sql}") == []


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE UNIQUE INDEX i ON a (b)",
        "CREATE INDEX i ON a ((b::int))",
        "CREATE INDEX i ON a (b) WHERE c::int > 0",
        "ALTER TABLE a ADD CONSTRAINT u UNIQUE (b)",
        "ALTER TABLE a ADD CONSTRAINT u UNIQUE USING INDEX i",
        "ALTER TABLE a ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES study ON DELETE CASCADE",
        "ALTER TABLE a ADD CHECK (b > 0)",
        "ALTER TABLE a ADD PRIMARY KEY (b)",
        "ALTER TABLE a DROP CONSTRAINT u",
        "ALTER TABLE a DROP COLUMN b",
        "ALTER TABLE a DROP b",
        "ALTER TABLE a ALTER b SET DATA TYPE int",
        "ALTER TABLE a ALTER COLUMN b SET NOT NULL",
        "ALTER TABLE a RENAME b TO c",
        "ALTER TABLE a ADD COLUMN b text NOT NULL",
        "ALTER TABLE a ADD b text NOT NULL",
        "ALTER TABLE a ADD b text NOT NULL DEFAULT NULL",
        "ALTER TABLE a ADD b text UNIQUE",
        "ALTER TABLE a ADD b text DEFAULT '' CHECK (b <> 'x')",
        "ALTER TABLE a ADD b text REFERENCES study",
        "ALTER TABLE a ADD b text, DROP c",
        "ALTER TABLE a ADD b text DEFAULT E'\\''",
        'ALTER TABLE a ADD "b" text',
        "DROP INDEX i",
        "DROP TABLE a",
        "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
        "CREATE RULE r AS ON INSERT TO a DO INSTEAD NOTHING",
        "DELETE FROM job",
        "UPDATE job SET state = 'PENDING'",
        "TRUNCATE job",
        "CREATE TABLE n (study_uid text REFERENCES study)",
        "CREATE TABLE n (a text REFERENCES study ON DELETE CASCADE, b text REFERENCES study)",
        "CREATE TABLE n (b text) INHERITS (job)",
        "CREATE TABLE n PARTITION OF job DEFAULT",
    ],
)
def test_what_an_older_release_cannot_know_must_not_be_declared(sql: str) -> None:
    for around in ("{};", "ALTER TABLE a ADD b text DEFAULT '--'; {};", "/* '; */ {}; -- works"):
        assert len(faults(49, "-- works from: 48\n" + around.format(sql))) == 1, around


def test_hidden_statements_are_faults() -> None:
    """What a splitter that takes no notice of quotes would let through."""
    for hidden in (
        """CREATE TABLE n ("'" text); DROP TABLE b; CREATE TABLE m ("'" text);""",
        "CREATE TABLE n (a text DEFAULT E'\\''); DROP TABLE b; CREATE TABLE m (a text DEFAULT '');",
        "DO $$ BEGIN CREATE TABLE n (a text); DROP TABLE b; END $$;",
    ):
        assert faults(49, f"-- works from: 48\n{hidden}"), hidden


def test_a_migration_that_declares_an_earlier_release_only_adds() -> None:
    assert faults(48, "-- works from: 48\n") == ["works from itself"]
    assert faults(48, "DROP TABLE a;") == [], "it declares nothing"
    assert faults(48, "-- works from: 47\n" + migrations()[48]) == []
    assert {version: found for version, sql in migrations().items() if (found := faults(version, sql))} == {}
