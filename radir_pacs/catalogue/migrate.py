"""Migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

A new one takes the next number. Where several are written at a time, a database may already have applied the later one;
the earlier one is applied all the same, since a database without it would not have the schema it claims to have.

One that only adds may say in its first line which release goes on beside it (ADR 0050), by the newest migration that
this one knows: ``-- works from: 48``. Programs of that release then run, and start, on the newer database.
"""

from __future__ import annotations

import logging
import re
from importlib.resources import files

import psycopg

from radir_pacs.catalogue.connecting import connected, gave_up
from radir_pacs.catalogue.names import folded
from radir_pacs.catalogue.queries import QUERIES
from radir_pacs.errors import StorageFailed

log = logging.getLogger(__name__)

_LOCK = 0x5241444952  # "RADIR": one migrating process at a time
_DECLARE = "UPDATE schema_version SET works_from = %s WHERE version = %s"
_LOCK_TIMEOUT_MS = 3_600_000  # the longest another process may migrate: minutes for a million studies
_FOLDED_NAMES = 14  # filled in here, since SQL folds only what the database's locale knows
WORKS_FROM = re.compile(r"-- works from: (\d+)\n")
_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


def schema() -> str:
    """The schema that results from all migrations."""
    return files("radir_pacs.catalogue").joinpath("schema.sql").read_text("utf-8")


def migrations() -> dict[int, str]:
    """The migrations' SQL by version, ascending."""
    found = {}
    for entry in files("radir_pacs.catalogue").joinpath("migrations").iterdir():
        if match := _FILE.fullmatch(entry.name):
            found[int(match[1])] = entry.read_text("utf-8")
    return dict(sorted(found.items()))


def newest_schema() -> int:
    """The version of the database that this program makes."""
    return max(migrations())


def migrate(conninfo: str) -> int:
    """Bring the database to the newest version and return it. Other processes wait for the first.

    Raises StorageFailed when the database is too new for this program, or cannot be reached.
    """
    known = migrations()
    newest = newest_schema()
    with connected(conninfo, autocommit=True) as connection:
        connection.execute(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        applied = _applied(connection)
        if (needed := _needed(connection)) > newest:
            raise StorageFailed(
                f"the database has version {max(applied)}, this program knows {newest}: it must know at least {needed}."
                " There is no way back, update the program, or restore the backup of before (radir restore)"
            )
        for version, sql in known.items():
            if version not in applied:
                _apply(connection, version, sql)
    return newest


def _apply(connection: psycopg.Connection[tuple[object, ...]], version: int, sql: str) -> None:
    try:
        with connection.transaction():
            connection.execute(sql.encode())
            if version == _FOLDED_NAMES:
                _fold_names(connection)
            connection.execute("INSERT INTO schema_version (version) VALUES (%s)", [version])
            if declared := WORKS_FROM.match(sql):
                connection.execute(_DECLARE, [int(declared[1]), version])
    except psycopg.Error as error:
        # Of class 42 the text names tables and columns. Of others it may quote a row: it stays out of the log.
        said = error.diag.message_primary if (error.sqlstate or "").startswith("42") else None
        log.exception("a migration failed", extra={"version": version, "sqlstate": error.sqlstate, "said": said})
        raise StorageFailed(f"migration {version} failed: {gave_up(error)}{f' ({said})' if said else ''}") from error


def _fold_names(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Fold each name once and join: an update per name would scan the whole table each time."""
    connection.execute("CREATE TEMPORARY TABLE fold (name text PRIMARY KEY, folded text) ON COMMIT DROP")
    names = "SELECT patient_name FROM study UNION SELECT referring_physician FROM study"
    found = connection.execute(f"SELECT name FROM ({names}) AS n (name) WHERE name IS NOT NULL".encode()).fetchall()
    with connection.cursor() as cursor, cursor.copy("COPY fold (name, folded) FROM STDIN") as copy:
        for (name,) in found:
            copy.write_row((name, folded(str(name))))
    for column in ("patient_name", "referring_physician"):
        update = f"UPDATE study SET {column}_folded = fold.folded FROM fold WHERE fold.name = {column}"
        connection.execute(update.encode())


def _needed(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """The newest migration that a program must know to work with this database; 0 for an empty one."""
    if not _applied(connection):
        return 0
    row = connection.execute(QUERIES["schema_version"]).fetchone()
    return 0 if row is None else int(str(row[1]))


def _applied(connection: psycopg.Connection[tuple[object, ...]]) -> frozenset[int]:
    """The versions that the database has, none for an empty one."""
    row = connection.execute("SELECT to_regclass('schema_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return frozenset()
    return frozenset(int(str(version)) for (version,) in connection.execute("SELECT version FROM schema_version"))
