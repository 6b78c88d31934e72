"""The embedded Postgres: started when it does not answer, and found by every later process.

The server outlives the process that started it; `stop` ends it. It listens on a Unix socket only. Its folder is
``postgres`` in the home folder; nothing above that folder is changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from radir_pacs import durable
from radir_pacs.catalogue.postgres_programs import VERSION, ServerUser, initdb, last_complaint, launch, server_user
from radir_pacs.errors import StorageFailed

log = logging.getLogger(__name__)

START_DEADLINE_S = 120.0  # crash recovery of a large database takes a while
_TOLD_AFTER_S = 5.0
REFUSES_S = 10.0  # after kill -9, old backends hold shared memory for a second or two; a longer refusal has a reason
STOP_DEADLINE_S = 60.0
_TEMPORARY = Path(tempfile.gettempdir())  # read once: listener and web change tempfile's folder later
_LONGEST_SOCKET_FOLDER = 85  # sun_path holds 107 bytes, "/.s.PGSQL.5432" and room for a lock file's suffix
_SOCKET = ".s.PGSQL.5432"
_NEW = "postgres.new"

# No statement or row may reach the server's log, since they hold patients' data (P7). The system's locale is not used.
_CONFIGURATION = (
    "cluster_name=radir",  # shown in the process list
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=300",
    # By default processes of their own read each block that is not in the server's buffers, though it is in the
    # system's: a search of thousands of rows costs a quarter more so. The system reads ahead from a disk all the same.
    "io_method=sync",
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
    "log_min_duration_statement=-1",
    "lc_messages=C",
    "lc_monetary=C",
    "lc_numeric=C",
    "lc_time=C",
)

_started: list[subprocess.Popen[bytes]] = []  # by this process; polled now and then, so that none remains a zombie


def start(home: Path, given_up: Callable[[], bool] = lambda: False) -> str:
    """Make sure that the server of this home folder answers; returns its keyword-style connection string.

    Safe to call from many processes at once. ``given_up`` is polled while it waits. Raises StorageFailed, with one line
    that says what to do, when the server does not answer in time, refuses to start, or ``given_up`` says so.
    """
    _forget_variables()
    conninfo = _conninfo(home)
    if _silence(conninfo) is None:
        return conninfo
    home.mkdir(parents=True, exist_ok=True)
    with _lock(home, given_up):
        _start(home, conninfo, given_up)
    return conninfo


def server_pid(home: Path) -> int | None:
    """The process id of this home folder's server; None when it is not running."""
    data = _data(home)
    return _pid(data) if _server_runs(data) else None


def stop(home: Path) -> None:
    """Stop the server of this home folder, if one runs; open connections are ended."""
    data = _data(home)
    with _lock(home):
        if not _server_runs(data):
            return
        pid = _pid(data)
        assert pid is not None
        _end(pid, lambda: not _server_runs(data))
    if _socket_folder(home) != data:
        with contextlib.suppress(OSError):
            _socket_folder(home).rmdir()


def _start(home: Path, conninfo: str, given_up: Callable[[], bool]) -> None:
    began = time.monotonic()
    refused_since: float | None = None
    process: subprocess.Popen[bytes] | None = None
    log_file, log_bytes, is_told = _data(home) / "log", 0, False
    while (silence := _silence(conninfo)) is not None:
        now = time.monotonic()
        if given_up():
            if process is not None:  # it may not have a pid file yet, by which `stop` would find it
                _end(process.pid, functools.partial(_has_ended, process))
            raise StorageFailed("stopped before the embedded Postgres was up")
        if now - began > START_DEADLINE_S:
            raise StorageFailed(f"the embedded Postgres does not answer: {silence}; its log is {log_file}")
        if now - began > _TOLD_AFTER_S and not is_told:  # whoever waits at a terminal knows what for
            log.warning("the embedded Postgres does not answer yet: waiting up to %.0f s", START_DEADLINE_S)
            is_told = True
        if process is not None and process.poll() is not None:
            process = None
            refused_since = refused_since or now
            if now - refused_since > REFUSES_S:
                why = last_complaint(log_file, log_bytes) or "it ends at once"
                raise StorageFailed(f"the embedded Postgres does not start: {why}; its log is {log_file}")
        if process is None and not _server_runs(_data(home)) and not _lingers(_data(home)):
            log_bytes = log_file.stat().st_size if log_file.exists() else 0
            process = _launch(home)
        time.sleep(0.1)


def _launch(home: Path) -> subprocess.Popen[bytes]:
    data, sockets = _data(home), _socket_folder(home)
    user = server_user()
    _make_data(home, user)
    _clear_leftovers(data, sockets)
    if sockets != data:
        _make_socket_folder(sockets, owner=data.stat())
    handle = os.open(data / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "ab") as log:
        process: subprocess.Popen[bytes] = launch(data, None if sockets == data else sockets, user, _CONFIGURATION, log)
    _started.append(process)
    return process


def _make_data(home: Path, user: ServerUser) -> None:
    """Create the data folder with a database: complete or not at all, since initdb may be killed half-way."""
    data = _data(home)
    version = data / "PG_VERSION"
    if version.exists():
        found = version.read_text().strip()
        if found != VERSION:
            raise StorageFailed(f"{data} is of Postgres {found or '?'}, not {VERSION}: upgrade it, or move it away")
        data.chmod(0o700)  # Postgres insists on it; restoring a backup may have widened the mode
        return
    if data.exists() and any(data.iterdir()):
        raise StorageFailed(f"{data} holds no complete database: move it away; studies are sent again")
    for leftover in home.glob(f"{_NEW}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_NEW, dir=home))
    if user.uid is not None:
        os.chown(made, user.uid, user.gid or -1)
    try:
        initdb(made, user)
        if data.exists():
            data.rmdir()
        made.rename(data)
        durable.sync(home)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _clear_leftovers(data: Path, sockets: Path) -> None:
    """Remove lock files of a dead server: empty after a power cut, or with an id that is another process's by now.

    Postgres takes any id of a living process for its server; here it is known that no server of this folder runs.
    """
    for leftover in (data / "postmaster.pid", sockets / f"{_SOCKET}.lock", sockets / _SOCKET):
        leftover.unlink(missing_ok=True)


def _forget_variables() -> None:
    """Drop PGSERVICE, PGCLIENTENCODING and the like, which libpq reads: none of them is meant for this server."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _data(home: Path) -> Path:
    return home / "postgres"


def _conninfo(home: Path) -> str:
    return make_conninfo(
        host=str(_socket_folder(home)), port=5432, user="postgres", dbname="postgres", client_encoding="UTF8"
    )


def _socket_folder(home: Path) -> Path:
    """The data folder, or a short one named by its hash where the path is too long or too odd for a socket."""
    data = _data(home)
    if _is_plain(data):
        return data
    name = f"radir-{os.geteuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
    return (_TEMPORARY if _is_plain(_TEMPORARY / name) else Path("/tmp")) / name


def _is_plain(folder: Path) -> bool:
    """Whether client and server understand the path of a socket in it alike."""
    odd = any(c.isspace() or c in "'\"\\,@" for c in str(folder))
    return len(os.fsencode(folder)) <= _LONGEST_SOCKET_FOLDER and not odd


def _silence(conninfo: str) -> str | None:
    """Why the server does not answer, in one line; None when it does."""
    try:
        with psycopg.connect(conninfo, connect_timeout=3) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return (str(error).strip().splitlines() or ["no answer"])[-1]
    return None


@contextlib.contextmanager
def _lock(home: Path, given_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    with (home / "postgres.lock").open("w") as file:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if given_up():
                raise StorageFailed("stopped before the embedded Postgres was up")
            time.sleep(0.05)
        yield


def _make_socket_folder(folder: Path, owner: os.stat_result) -> None:
    """Create it in the shared temporary folder; refused when somebody else made it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder.lstat()
    if made.st_uid not in (os.geteuid(), owner.st_uid) or folder.is_symlink():
        raise StorageFailed(f"the socket folder {folder} belongs to somebody else: remove it")
    os.chown(folder, owner.st_uid, owner.st_gid)


def _pid(data: Path) -> int | None:
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        return abs(pid) or None  # a backend in single-user mode, as initdb runs it, writes its id negative
    except (OSError, ValueError):
        return None


def _server_runs(data: Path) -> bool:
    """Whether the process in postmaster.pid is this folder's Postgres, not another process with its old id."""
    for process in _started:
        process.poll()
    pid = _pid(data)
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or "postgres" not in process.name():
            return False
        return str(data) in process.cmdline() or process.cwd() == str(data.resolve())  # it works in its data folder
    except psutil.Error:
        return False


def _lingers(data: Path) -> bool:
    """Whether any Postgres process still works in the data folder: backends of a killed server, or a server whose pid
    file was emptied. Two servers over the same files would destroy them."""
    here = str(data.resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "postgres" and process.cwd() == here and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _end(pid: int, has_ended: Callable[[], bool]) -> None:
    """Fast shutdown; for a server that does not stop, an immediate one, from which the next start recovers."""
    for number, wait_s in ((signal.SIGINT, STOP_DEADLINE_S), (signal.SIGQUIT, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if _wait_until(has_ended, wait_s):
            return


def _wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
