"""A connection of one's own, and why there is none, in one line that holds no password."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from radir_pacs.errors import DatabaseRefuses, SettingError, StorageFailed

_WHY = {  # by SQLSTATE (PostgreSQL, appendix A)
    "25006": "it is read-only, as a standby is",
    "40001": "another transaction changed the same rows",
    "40P01": "two transactions waited for each other",
    "42501": "its user may not do that: make it the owner of the database",
    "53100": "its disk is full",
    "53200": "it has no memory left",
    "53300": "it has no connection left (max_connections)",
    "55P03": "a lock was not to be had in time",
    "57014": "a statement took too long",
    "57P01": "it was stopped",
    "57P02": "it crashed",
    "57P03": "it is starting, or being stopped",
}


@contextlib.contextmanager
def connected(conninfo: str, **options: Any) -> Iterator[psycopg.Connection[Any]]:
    """A connection outside any pool. Raises DatabaseRefuses where there is none, and StorageFailed later on."""
    try:
        connection = psycopg.connect(conninfo, **options)
    except psycopg.Error as error:
        raise DatabaseRefuses(f"the database{_where(conninfo)}", _said(error)) from error
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        raise StorageFailed(gave_up(error)) from error


def gave_up(error: psycopg.Error) -> str:
    """What befell a statement, in words."""
    if not error.sqlstate:
        return "the database did not answer"
    return f"the database gave up: {_WHY.get(error.sqlstate, f'SQLSTATE {error.sqlstate}')}"


def check_parts(url: str, given: Mapping[str, Any]) -> None:
    """Raise SettingError where a password with / or @ was read as host, port or name, all of which are shown.

    given: what libpq reads in ``url``, which may be a connection string of keywords as well.
    """
    host, port, name = (str(given.get(part) or "") for part in ("host", "port", "dbname"))
    is_url = url.startswith(("postgresql://", "postgres://"))
    if (is_url and ("@" in host or "@" in name)) or "://" in name or not re.fullmatch(r"[0-9,]*", port):
        raise SettingError("database_url: in a URL, @ and / of a password are written %40 and %2F")


def _where(conninfo: str) -> str:
    """User, host, port and name, as far as they are given; a folder of a socket is a host."""
    given = conninfo_to_dict(conninfo)
    user, host, port, name = (given.get(part) for part in ("user", "host", "port", "dbname"))
    said = (
        (f"{user}@" if user else "") + (str(host or "")) + (f":{port}" if port else "") + (f"/{name}" if name else "")
    )
    return f" {said}" if said else ""


def _said(error: psycopg.Error) -> str:
    """The reason in libpq's first line, without what is said of the address before it."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line.rpartition("failed: ")[2].removeprefix("FATAL:").strip() or "no answer"
