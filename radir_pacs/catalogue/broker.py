"""The default broker: pgmq's tables inside the same Postgres, installed once."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from pgmq import PGMQueue
from pgmq.base import PGMQConfig
from pgmq.install import get_embedded_install_sql
from psycopg import sql

from radir_pacs.catalogue.connecting import connected

log = logging.getLogger(__name__)

_LOCK = 0x50474D51  # "PGMQ"
_PATIENCE_MS = 200  # for a lock behind which who sends and reads messages waits too
_TRIGGER = "trigger_notify_queue_insert_listeners"
_HAS_TRIGGER = f"""
SELECT FROM pg_trigger WHERE tgname = '{_TRIGGER}' AND tgrelid = to_regclass(format('pgmq.%%I', %(table)s::text))
"""
# As pgmq.enable_notify_insert does, which drops the trigger before and so waits for whoever reads the table.
_MAKE_TRIGGER = f"""
CREATE CONSTRAINT TRIGGER {_TRIGGER} AFTER INSERT ON pgmq.{{}}
DEFERRABLE FOR EACH ROW EXECUTE FUNCTION pgmq.notify_queue_listeners()
"""
_EACH_MESSAGE = """
INSERT INTO pgmq.notify_insert_throttle (queue_name, throttle_interval_ms)
SELECT %(queue)s::text, 0 WHERE NOT EXISTS (
    SELECT FROM pgmq.notify_insert_throttle WHERE queue_name = %(queue)s::text AND throttle_interval_ms = 0)
ON CONFLICT (queue_name) DO UPDATE SET throttle_interval_ms = 0
"""


class _Config(PGMQConfig):
    @property
    def dsn(self) -> str:
        return str(self.conn_string)


class BrokerClient(PGMQueue):  # type: ignore[no-untyped-call]
    """Connects with the whole connection string. Of pgmq's own client host, port, database, user and password are left:
    no sslmode, no deadline; and the user is postgres where none is named.
    """

    def _init_pool(self) -> None:
        self.config = _Config(
            conn_string=self.conn_string, vt=self.vt, pool_size=self.pool_size, init_extension=self.init_extension
        )
        super()._init_pool()


def install_pgmq(conninfo: str) -> None:
    """Install pgmq (plain SQL, no extension) unless it is there already; other processes wait for the first."""
    with connected(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        row = connection.execute("SELECT to_regclass('pgmq.meta') IS NOT NULL").fetchone()
        if row is None or not row[0]:
            with connection.transaction():
                connection.execute(get_embedded_install_sql().encode())


def notifies(connection: psycopg.Connection[Any], queue: str) -> bool:
    """Whether each message of this queue is told by NOTIFY from now on, which is set up where it is not yet.

    A table of the queue that lacks the trigger gets it, once: the lock for it conflicts with messages under way, not
    with a dump, and is given up after ``_PATIENCE_MS``. False then, and where pgmq is of a version or an owner that
    does not let us. Called for every connection: a crash of Postgres empties the table of throttles. Raises
    psycopg.OperationalError when the connection is lost.
    """
    table = {"table": f"q_{queue}"}
    try:
        with connection.transaction():
            if not connection.execute(_HAS_TRIGGER, table).rowcount:
                name = sql.Identifier(table["table"])
                connection.execute(f"SET LOCAL lock_timeout = {_PATIENCE_MS}".encode())
                connection.execute(sql.SQL("LOCK TABLE pgmq.{} IN SHARE ROW EXCLUSIVE MODE").format(name))
                if not connection.execute(_HAS_TRIGGER, table).rowcount:  # nobody else made it meanwhile
                    connection.execute(sql.SQL(_MAKE_TRIGGER).format(name))
            connection.execute(_EACH_MESSAGE, {"queue": queue})
    except psycopg.Error as error:
        if connection.broken:
            raise
        log.warning("a queue does not tell of its messages", extra={"queue": queue, "error": type(error).__name__})
        return False
    return True
