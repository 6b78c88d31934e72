"""The database's side of a backup: one snapshot of all tables, and what a restored database has to forget.

Transaction ids (xid8) are a server's own: those in a dump mean nothing to the server it is restored to, and to the same
server after a recovery to an earlier moment they may name other transactions. What is found by them (the index's
generations, the feed of changes) is therefore made anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from psycopg import sql
from psycopg.rows import dict_row

from radir_pacs.catalogue import postgres_clients
from radir_pacs.catalogue.connecting import connected
from radir_pacs.catalogue.database import Connection, run, unhurried
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import Conflict

_ONE_BACKUP = 0x52414441
_NO_DELETION = 0x52414442  # queries.sql: known_blobs
NOT_DUMPED = ("encoding_gone", "generation", "process", "study_changed")  # a restored database starts without them
IMAGE_TOKENS = "image_tokens"
_PARTS = 256  # by the first byte of the hash
_SETTLING = (
    "forget_generations",
    "renumber_encodings",
    "forget_gone",
    "forget_changed",
    "move_feed_horizon",
    "release_jobs",
    "announce_again",
    "release_retraining",
    "forget_processes",
    "forget_sessions",
    "forget_visits",
    "forget_all_attempts",
)


class Snapshot:
    """All tables as they were at one moment, for as long as the block of `Backups.snapshot` lasts."""

    def __init__(self, connection: Connection, conninfo: str, name: str, without: Sequence[str]) -> None:
        self._connection, self._conninfo, self._name, self._without = connection, conninfo, name, without

    def counts(self) -> dict[str, int]:
        """Rows by table, of those that `dump` writes."""
        return _counts(self._connection, self._without)

    def schema_version(self) -> int:
        row = self._connection.execute("SELECT max(version) AS version FROM schema_version").fetchone()
        assert row is not None
        return int(row["version"])

    def blobs(self) -> Iterator[tuple[str, int | None]]:
        """(SHA-256, size in bytes if known) of every blob, by hash."""
        return _blobs(self._connection)

    def dump(self) -> Iterator[bytes]:
        """The database in pg_dump's custom format. Raises StorageFailed."""
        return postgres_clients.dump(self._conninfo, self._name, without_rows_of=self._without)


class Backups(CataloguePart):
    @contextlib.contextmanager
    def alone(self) -> Iterator[Connection]:
        """No other backup is made until the block ends or this process dies. Raises Conflict where one is."""
        with self._connected() as connection:
            row = connection.execute("SELECT pg_try_advisory_lock(%s) AS ours", [_ONE_BACKUP]).fetchone()
            if row is None or not row["ours"]:
                raise Conflict("a backup of this installation is being made: wait for its end")
            yield connection

    def blobs(self) -> Iterator[tuple[str, int | None]]:
        """As of `Snapshot.blobs`, by parts, each as it is when its turn comes.

        A first backup takes hours, and one transaction over all of it would keep Postgres from clearing away what is
        updated meanwhile.
        """
        with self._connected() as connection:
            yield from _blobs(connection)

    @contextlib.contextmanager
    def snapshot(self, connection: Connection, *, without_tokens: bool = False) -> Iterator[Snapshot]:
        """``connection``: of `alone`; from now to its end no blob is deleted. ``without_tokens``: of images."""
        connection.execute("SELECT pg_advisory_lock(%s)", [_NO_DELETION])
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            row = connection.execute("SELECT pg_export_snapshot() AS name").fetchone()
            assert row is not None
            without = (*NOT_DUMPED, *((IMAGE_TOKENS,) if without_tokens else ()))
            yield Snapshot(connection, self._database.conninfo, row["name"], without)

    def installation(self) -> str:
        """The id of this installation, which no other has that was restored from its backup."""
        with self._database.transaction() as connection:
            row = run(connection, "installation").fetchone()
        assert row is not None
        return str(row["id"])

    def name_installation(self, installation: str) -> None:
        """Give a restored installation an id of its own."""
        with self._database.transaction() as connection:
            run(connection, "name_installation", id=installation)

    def settle(self) -> None:
        """Make a restored database true for this machine: no generation, no feed and no lease of before holds.

        It may be done again at any time while nothing else runs.
        """
        with self._database.transaction() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            for step in _SETTLING:
                run(connection, step)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection of its own, without a limit of time: a backup takes as long as it takes."""
        conninfo = unhurried(self._database.conninfo, timezone="UTC")
        with connected(conninfo, autocommit=True, row_factory=dict_row) as connection:
            yield connection


def _blobs(connection: Connection) -> Iterator[tuple[str, int | None]]:
    for part in range(_PARTS):
        high = f"{part + 1:02x}" if part + 1 < _PARTS else "g"
        for row in run(connection, "blobs_to_copy", low=f"{part:02x}", high=high).fetchall():
            yield row["sha256"], row["size_bytes"]


def database_is_empty(conninfo: str) -> bool:
    """Whether the database has no table of anybody yet. Raises StorageFailed."""
    with connected(conninfo, row_factory=dict_row) as connection:
        return not run(connection, "tables").fetchall()


def restore_database(conninfo: str, source: Iterator[bytes]) -> None:
    """Fill an empty database from a dump, in one transaction: all of it, or nothing. Raises StorageFailed."""
    postgres_clients.restore(conninfo, source)


def rows_in_dump(source: Iterator[bytes]) -> dict[str, int]:
    """Rows by table of a dump, read without a server. Raises StorageFailed, and what ``source`` raises."""
    return postgres_clients.rows_in(source)


def rows_of(conninfo: str, without: Sequence[str] = NOT_DUMPED) -> dict[str, int]:
    """Rows by table. Raises StorageFailed."""
    with connected(conninfo, row_factory=dict_row) as connection:
        return _counts(connection, without)


def _counts(connection: Connection, without: Sequence[str]) -> dict[str, int]:
    found = {}
    for row in run(connection, "tables").fetchall():
        if row["name"] in without:
            continue
        counted = connection.execute(sql.SQL("SELECT count(*) AS n FROM {}").format(sql.Identifier(row["name"])))
        found[row["name"]] = counted.fetchall()[0]["n"]
    return found
