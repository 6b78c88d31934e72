"""The default broker: pgmq's tables inside the same Postgres, installed once."""

from __future__ import annotations

import psycopg
from pgmq.install import get_embedded_install_sql

from radir_pacs.errors import StorageFailed

_LOCK = 0x50474D51  # "PGMQ"


def install_pgmq(conninfo: str) -> None:
    """Install pgmq (plain SQL, no extension) unless it is there already; other processes wait for the first."""
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            row = connection.execute("SELECT to_regclass('pgmq.meta') IS NOT NULL").fetchone()
            if row is None or not row[0]:
                with connection.transaction():
                    connection.execute(get_embedded_install_sql().encode())
    except psycopg.OperationalError as error:
        raise StorageFailed(f"the database did not answer ({type(error).__name__})") from error
