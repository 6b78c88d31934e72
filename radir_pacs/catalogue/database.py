"""Connections, transactions and named queries: the one place that knows psycopg's moods."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from radir_pacs.catalogue import embedded
from radir_pacs.catalogue.queries import QUERIES
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, SettingError, StorageFailed

Connection = psycopg.Connection[DictRow]
Cursor = psycopg.Cursor[DictRow]
Row = DictRow

POOL_WAIT_S = 10.0
STATEMENT_TIMEOUT_MS = 120_000  # no statement holds a connection for ever (P6)
LOCK_TIMEOUT_MS = 30_000


def conninfo_of(settings: Settings) -> str:
    """The keyword-style connection string; starts the embedded server when no other database is set."""
    if not settings.database_url:
        return embedded.start(settings.home)
    try:
        conninfo_to_dict(settings.database_url)  # says what is wrong before anybody connects
        return make_conninfo(settings.database_url, connect_timeout=10, client_encoding="UTF8")  # whatever PG* says
    except psycopg.Error:
        raise SettingError("database_url: not a Postgres URL or connection string") from None


class Database:
    """A pool of connections. Threads may share it; a child process opens its own."""

    def __init__(self, conninfo: str, *, connections: int = 10) -> None:
        self.conninfo = conninfo
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC"
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            conninfo,
            min_size=1,
            max_size=connections,
            timeout=POOL_WAIT_S,
            open=False,
            check=ConnectionPool.check_connection,  # a server that was restarted costs a reconnect, not an error
            kwargs={"row_factory": dict_row, "options": options, "autocommit": False},
        )
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        Raises StorageFailed when the database cannot be reached or gives up, BadInput for values it cannot hold.
        """
        try:
            with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, PoolTimeout) as error:
            raise StorageFailed(f"the database did not answer ({type(error).__name__})") from error
        except (psycopg.DataError, UnicodeEncodeError) as error:
            raise BadInput(f"a value cannot be stored ({type(error).__name__})") from error


def run(connection: Connection, query: str, parameters: Mapping[str, Any] | None = None, **named: Any) -> Cursor:
    """Run the query of queries.sql with that name."""
    return connection.execute(QUERIES[query], {**(parameters or {}), **named})
