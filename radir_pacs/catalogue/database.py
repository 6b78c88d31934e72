"""Connections, transactions and named queries: the only place that deals with psycopg's peculiarities."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from radir_pacs.catalogue import embedded
from radir_pacs.catalogue.connecting import check_parts, gave_up
from radir_pacs.catalogue.queries import QUERIES
from radir_pacs.catalogue.watch import CONNECT_S, Ticket, Watch
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, DatabaseAway, SettingError, StorageFailed

Connection = psycopg.Connection[DictRow]
Cursor = psycopg.Cursor[DictRow]
Row = DictRow
_T = TypeVar("_T")

POOL_WAIT_S = 10.0
_SPARE_WAIT_S = 0.05  # a pool that may grow connects within it
STATEMENT_TIMEOUT_MS = 120_000  # no statement holds a connection for ever (P6)
LOCK_TIMEOUT_MS = 30_000
# Of every connection by TCP, where a network may drop packets silently: 15 seconds until either end notices.
_OURS = {"tcp_user_timeout": 15_000, "keepalives_idle": 6, "keepalives_interval": 3, "keepalives_count": 3}
_THE_SERVERS = {  # it holds the locks of a machine that lost power until then
    "tcp_user_timeout": 15_000,
    "tcp_keepalives_idle": 6,
    "tcp_keepalives_interval": 3,
    "tcp_keepalives_count": 3,
}


def conninfo_of(settings: Settings) -> str:
    """The keyword-style connection string; starts the embedded server when no other database is set."""
    if not settings.database_url:
        return embedded.start(settings.home)
    try:
        given = conninfo_to_dict(settings.database_url)  # finds faults before anybody connects
        check_parts(settings.database_url, given)
        limits = {name: value for name, value in _OURS.items() if name not in given}
        options = _options(**_THE_SERVERS) + f" {given.get('options') or ''}"
        return make_conninfo(
            settings.database_url,
            **limits,
            connect_timeout=10,
            client_encoding="UTF8",  # whatever PG* says
            options=options.strip(),
        )
    except psycopg.Error:
        raise SettingError("database_url: not a Postgres URL or connection string") from None


def unhurried(conninfo: str, **settings: str) -> str:
    """For a backup, a dump, a restoration: either end may read nothing for minutes while a disk or a bucket stalls.

    A peer that is gone is noticed by keepalives, or by the kernel where data were under way; a slow one is waited for.
    ``settings``: of the server, for this connection.
    """
    given = conninfo_to_dict(conninfo)
    options = f"{given.get('options') or ''} {_options(tcp_user_timeout=0, **settings)}".strip()
    return make_conninfo(conninfo, tcp_user_timeout=0, options=options)


def _options(**values: object) -> str:
    return " ".join(f"-c {name}={value}" for name, value in values.items())


class Database:
    """A pool of connections. Threads may share it; a child process opens its own."""

    def __init__(self, conninfo: str, *, connections: int = 10) -> None:
        self.conninfo = conninfo
        self._connections = connections
        self._replacing = threading.Lock()  # around every change of the pool
        self._pool = self._make_pool()
        self._watch = Watch(conninfo, on_away=self._drop_pool, on_back=self._renew_pool)

    def _make_pool(self) -> ConnectionPool[Connection]:
        given = conninfo_to_dict(self.conninfo).get("options") or ""
        ours = _options(
            statement_timeout=STATEMENT_TIMEOUT_MS,
            lock_timeout=LOCK_TIMEOUT_MS,
            timezone="UTC",
            jit="off",  # a plan over a million studies costs enough to be compiled, which takes longer than running it
        )
        pool: ConnectionPool[Connection] = ConnectionPool(
            self.conninfo,
            min_size=1,
            max_size=self._connections,
            timeout=POOL_WAIT_S,
            open=False,
            kwargs={
                "row_factory": dict_row,
                "options": f"{given} {ours}".strip(),
                "autocommit": False,
                "connect_timeout": CONNECT_S,
            },
        )
        pool.open()
        return pool

    def _drop_pool(self) -> None:
        """Fail all waits for a connection; connections in use are closed when they are returned."""
        with self._replacing:
            self._pool.close(timeout=0)

    def _renew_pool(self) -> None:
        """Replace the pool: a new one connects at once, the old one would wait longer and longer between attempts."""
        with self._replacing:
            self._replace_pool()

    def _forget(self, pool: ConnectionPool[Connection]) -> None:
        """A later release migrated the database: what the pool's connections prepared is of before.

        Every thread that meets it comes here; the first one replaces the pool, unless it was closed meanwhile.
        """
        with self._replacing:
            if pool is self._pool and not pool.closed:
                self._replace_pool()

    def _replace_pool(self) -> None:
        """The new one is there before the old one is closed, so that who waits at the old one can turn to it."""
        old, self._pool = self._pool, self._make_pool()
        old.close(timeout=0)

    def await_answer(self, within_s: float) -> bool:
        """Whether the database answers, within ``within_s``."""
        return self._watch.await_answer(within_s)

    def close(self) -> None:
        self._watch.close()
        with self._replacing:
            self._pool.close()

    def read(self, send: Callable[[Connection], _T]) -> _T:
        """What ``send`` makes of a pipeline of statements; their results are there when it is returned.

        They are one transaction and one round trip: the connection is not tried beforehand. If the server was started
        again meanwhile, the statements are sent once more, on a connection that works, so they must only read, or
        write what may stand twice. Raises as `transaction` does.
        """
        return self._once_or_twice(self.pipeline, send)

    def ask(self, query: str, values: Mapping[str, Any]) -> list[Row]:
        """The rows of one named query, one round trip; it is sent once more under the conditions of `read`."""
        return self._once_or_twice(self._statement, lambda connection: _rows(connection, query, values))

    def _once_or_twice(
        self, connected: Callable[[], AbstractContextManager[Connection]], send: Callable[[Connection], _T]
    ) -> _T:
        used: Connection | None = None
        try:
            with connected() as used:
                return send(used)
        except DatabaseAway:
            raise
        except StorageFailed:
            if used is None or not used.closed:
                raise
        with self.transaction() as connection, connection.pipeline():
            return send(connection)

    @contextlib.contextmanager
    def _statement(self) -> Iterator[Connection]:
        """A connection on which a single statement is a transaction, without BEGIN and COMMIT."""
        with (
            self._errors(),
            self._watch.ticket() as ticket,
            self._connection(ticket, tried=False, implicit=True) as connection,
        ):
            yield connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back by any exception.

        Raises StorageFailed when the database gives up, BadInput for values it cannot hold, DatabaseAway when it cannot
        be reached: the first time within seconds, then at once until it is back.
        """
        with (
            self._errors(),
            self._watch.ticket() as ticket,
            self._connection(ticket, tried=True, implicit=False) as connection,
        ):
            yield connection

    @contextlib.contextmanager
    def spare(self) -> Iterator[Connection | None]:
        """A transaction on a connection that nobody uses, if there is one at once: for what is only faster with it.

        Within a `transaction`, which turns its errors into ours.
        """
        with contextlib.ExitStack() as stack:
            ticket = stack.enter_context(self._watch.ticket())
            connection: Connection | None = None
            with contextlib.suppress(PoolTimeout, PoolClosed):
                connection = stack.enter_context(
                    self._connection(ticket, tried=True, implicit=False, within_s=_SPARE_WAIT_S)
                )
            yield connection

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[Connection]:
        """One transaction whose statements are under way while the body does other things; results come at its end.

        It is committed with the last result, in one round trip, and undone by any exception, at the price of the
        connection. Raises as `transaction`, also when the server was started again since the connection was used.
        """
        with (
            self._errors(),
            self._watch.ticket() as ticket,
            self._connection(ticket, tried=False, implicit=True) as connection,
            _given_up(connection),  # psycopg counts statements as prepared that the server skipped after an error
            connection.pipeline(),
            _given_up(connection),  # before the pipeline ends: what was sent would be committed otherwise
        ):
            yield connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the database's errors into ours."""
        if self._watch.is_away:
            raise DatabaseAway
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, PoolTimeout) as error:
            self._watch.suspect()
            if self._watch.is_away:
                raise DatabaseAway from error
            raise StorageFailed(gave_up(error)) from error
        except psycopg.errors.FeatureNotSupported as error:
            raise StorageFailed("the database was migrated meanwhile: try again") from error
        except (psycopg.DataError, UnicodeEncodeError) as error:
            raise BadInput(f"a value cannot be stored ({type(error).__name__})") from error

    @contextlib.contextmanager
    def _connection(
        self, ticket: Ticket, *, tried: bool, implicit: bool, within_s: float = POOL_WAIT_S
    ) -> Iterator[Connection]:
        """A working connection from the pool, within so many seconds; ``watch`` bounds every wait for the server.

        implicit: without BEGIN and COMMIT. A statement by itself is a transaction then, as are those of a pipeline,
        ended by its synchronisation. The connection stays so until somebody needs it otherwise: setting it back each
        time would cost four changes a question.
        """
        while True:
            with self._taken(within_s) as (pool, connection), self._watch.using(ticket, connection):
                if tried and not _works(connection):  # the server was restarted: the pool replaces it
                    connection.close()
                    continue
                if connection.autocommit != implicit:
                    connection.autocommit = implicit
                try:
                    with _ended(connection):
                        yield connection
                except psycopg.errors.FeatureNotSupported:  # rows of a prepared statement have a column more now
                    connection.close()
                    self._forget(pool)
                    raise
                return

    @contextlib.contextmanager
    def _taken(self, within_s: float) -> Iterator[tuple[ConnectionPool[Connection], Connection]]:
        """A connection from the pool, and the pool. Raises PoolClosed when there is no other by now."""
        while True:
            pool = self._pool
            try:
                connection = pool.getconn(timeout=within_s)
                break
            except PoolClosed:
                if pool is self._pool:
                    raise
        try:
            yield pool, connection  # whose transaction has ended when it comes back: `_ended`
        finally:
            pool.putconn(connection)


@contextlib.contextmanager
def _given_up(connection: Connection) -> Iterator[None]:
    """Close the connection where the body fails."""
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        yield
        stack.pop_all()


@contextlib.contextmanager
def _ended(connection: Connection) -> Iterator[None]:
    """Commit or roll back here, while the connection is still watched; the pool would do it later."""
    try:
        yield
    except BaseException:  # an interrupt too
        with contextlib.suppress(psycopg.Error):
            connection.rollback()
        raise
    if not connection.autocommit:
        connection.commit()


def _works(connection: Connection) -> bool:
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.Error:
        return False
    return True


def _rows(connection: Connection, query: str, values: Mapping[str, Any]) -> list[Row]:
    """In binary form: vectors would be twice as long as text."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(QUERIES[query], values).fetchall()


def run(connection: Connection, query: str, parameters: Mapping[str, Any] | None = None, **named: Any) -> Cursor:
    """Run the query with that name in queries.sql."""
    return connection.execute(QUERIES[query], {**(parameters or {}), **named})
