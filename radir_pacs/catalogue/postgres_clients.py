"""pg_dump and pg_restore of the Postgres that we bring, through pipes: no dump lies on this machine's disk.

They get the connection by libpq's variables, which other users of the machine cannot read as they can arguments. A
message of theirs may quote a row, so only the line that begins with "error:" is passed on, without its details (P7).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from radir_pacs.catalogue.database import unhurried
from radir_pacs.catalogue.postgres_programs import client_program, complaint
from radir_pacs.catalogue.vectors import SCHEMA
from radir_pacs.errors import StorageFailed

_PIECE_BYTES = 1 << 20
_COPY = re.compile(rb"COPY public\.\"?(\w+)\"? \(")


def dump(conninfo: str, snapshot: str, *, without_rows_of: Sequence[str]) -> Iterator[bytes]:
    """A dump of what an exported snapshot sees, in the custom format; pgmq's messages and pgvector's copies of vectors,
    which are filled anew, are not in it.

    Raises StorageFailed, at the end too: what was yielded is a dump only when the iterator came to its end.
    """
    options = [f"--exclude-table-data=public.{table}" for table in without_rows_of]
    command = [
        client_program("pg_dump"),
        "--format=custom",
        "--compress=gzip:1",
        f"--snapshot={snapshot}",
        "--no-owner",
        "--no-privileges",
        "--exclude-schema=pgmq",
        f"--exclude-schema={SCHEMA}",
        "--extension=plpgsql",  # a server without pgvector can restore it
        "--no-password",
        f"--dbname={_to_tell(conninfo)}",
        *options,
    ]
    with _running(command, "pg_dump", conninfo) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(_PIECE_BYTES):
            yield piece


def restore(conninfo: str, source: Iterable[bytes]) -> None:
    """Fill a database from a dump, in one transaction. Raises StorageFailed, and what ``source`` raises."""
    command = [
        client_program("pg_restore"),
        "--single-transaction",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--no-password",
        f"--dbname={_to_tell(conninfo)}",
    ]
    with _running(command, "pg_restore", conninfo, reads=True, writes=False) as process:
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended: its exit status tells
                for piece in source:
                    process.stdin.write(piece)
                process.stdin.close()
        except BaseException:  # an interrupt too: what came so far must not be taken for all of it
            process.kill()
            raise


def rows_in(source: Iterable[bytes]) -> dict[str, int]:
    """Rows by table of a dump, read without a server. Raises StorageFailed for what is no whole dump."""
    command = [client_program("pg_restore"), "--data-only", "--file=-"]
    found: dict[str, int] = {}
    failures: list[BaseException] = []
    with _running(command, "pg_restore", None, reads=True) as process:
        assert process.stdin is not None and process.stdout is not None
        into = process.stdin

        def feed() -> None:
            """In a thread: pg_restore writes while it reads."""
            try:
                with contextlib.suppress(BrokenPipeError):  # it ended: its exit status tells
                    for piece in source:
                        into.write(piece)
                    into.close()
            except BaseException as error:  # raised again by the thread that reads
                failures.append(error)
                process.kill()

        feeder = threading.Thread(target=feed, name="dump")
        feeder.start()
        try:
            _count(process.stdout, found)
        except BaseException:  # an interrupt too: the thread that feeds would wait for ever
            process.kill()
            raise
        finally:
            feeder.join()
        if failures:
            raise failures[0]
    return found


def _count(lines: Iterable[bytes], found: dict[str, int]) -> None:
    table: str | None = None
    for line in lines:
        if table is None:
            if match := _COPY.match(line):
                table = match[1].decode()
                found[table] = 0
        elif line == b"\\.\n":
            table = None
        else:
            found[table] += 1


@contextlib.contextmanager
def _running(
    command: list[str], name: str, conninfo: str | None, *, reads: bool = False, writes: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, ended with the block; one that ends with an error, or is not read to its end, raises."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
            stdout=subprocess.PIPE if writes else subprocess.DEVNULL,
            stderr=said,
            env=_environment(conninfo),
        )
        try:
            yield process
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        if code != 0:
            said.seek(0)
            why = complaint(said.read().decode(errors="replace")) or f"exit status {code}"
            raise StorageFailed(f"{name}: {why}")


def _to_tell(conninfo: str) -> str:
    """What libpq has no variables for, and is no secret."""
    given = conninfo_to_dict(conninfo)
    keepalives = {name: str(value) for name, value in given.items() if name.startswith("keepalives")}
    return make_conninfo(dbname=str(given.get("dbname") or given.get("user") or "postgres"), **keepalives)


def _environment(conninfo: str | None) -> dict[str, str]:
    """Nothing of ours but the connection."""
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    if conninfo is None:
        return environment
    variables = {
        option.keyword.decode(): option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar
    }
    for keyword, value in conninfo_to_dict(unhurried(conninfo)).items():
        if keyword in variables and value is not None:
            environment[variables[keyword]] = str(value)
    if home := os.environ.get("HOME"):  # where libpq looks for certificates
        environment["HOME"] = home
    return environment
