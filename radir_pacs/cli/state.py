"""What a running installation keeps in its home folder: a lock, and what its supervisor knows of its processes.

`radir up` runs everything under one lock; a supervisor of some roles alone has a lock and a file with their names and
its machine's, since machines and containers may share a home folder.

The lock shows whether a supervisor is running: the kernel releases it with the process, however that ends. A process id
would not show it: ids are reused, within minutes in a container.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from radir_pacs import durable
from radir_pacs.cli.roles import Role
from radir_pacs.config import ENV_PREFIX, Settings
from radir_pacs.errors import NotReady, RadirError, SettingError

_LOOKING_S = 0.5  # `is_held` holds the lock for a moment; a supervisor that starts just then waits
_STOP_S = 20.0
_STATE = "supervisor"


@contextlib.contextmanager
def only_one(settings: Settings, roles: str = "") -> Iterator[None]:
    """Hold the home folder's lock, and those of the roles, so that none runs twice on a machine. Raises RadirError.

    The indexer, and everything at once, run once in a home folder, whatever machines share it.

    roles: of a supervisor that runs only some, with its machine, as `set_name`; empty for one that runs everything.
    """
    names, _, machine = roles.partition("@")
    own = [(_lock_file(settings, roles), f"radir serve {names.replace('-', ' ')}" if roles else "radir")]
    common = []
    for role in names.split("-") if roles else Role:  # no other set that has one of them runs beside this
        if machine:
            own.append((settings.home / f"role-{role}@{machine}.lock", f"the {role}"))
        how = fcntl.LOCK_SH if machine and role != Role.INDEXER else fcntl.LOCK_EX
        common.append((settings.home / f"role-{role}.lock", f"the {role}", how))
    make_home(settings)
    with contextlib.ExitStack() as held:
        for path, what in own:
            held.enter_context(_held(path, what, fcntl.LOCK_EX, settings))
            if machine:  # containers have a new name each time
                held.callback(path.unlink, missing_ok=True)
        for path, what, how in common:
            held.enter_context(_held(path, what, how, settings))
        yield


def make_home(settings: Settings) -> None:
    """Make the home folder, closed to others, where there is none. Raises SettingError."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingError(f"home: {settings.home} cannot be used: {error.strerror}") from None


@contextlib.contextmanager
def _held(path: Path, what: str, how: int, settings: Settings) -> Iterator[None]:
    """The file locked, and still the one that has that name."""
    deadline = time.monotonic() + _LOOKING_S
    while True:
        try:
            file = path.open("a+")  # NFS locks shared only what may be read, and exclusive only what may be written
        except OSError as error:
            raise SettingError(f"home: {settings.home} cannot be used: {error.strerror}") from None
        with file:
            if _locked(file, how) and os.fstat(file.fileno()).st_nlink:
                yield
                return
        if time.monotonic() > deadline:
            raise RadirError(f"{what} is already running in {settings.home}")
        time.sleep(0.02)


def is_held(settings: Settings, roles: str = "") -> bool:
    """Whether a supervisor of everything, or of these roles, runs in this home folder."""
    try:
        with _lock_file(settings, roles).open() as file:
            return not _locked(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def holders(settings: Settings) -> list[str]:
    """The roles of the supervisors that run in this home folder; "" for one that runs everything."""
    found = [""] if is_held(settings) else []
    names = (file.stem.removeprefix("radir-") for file in sorted(settings.home.glob("radir-*.lock")))
    return found + [roles for roles in names if is_held(settings, roles)]


def must_run(settings: Settings) -> None:
    """Raise NotReady when the database is the embedded one and no supervisor runs it.

    A typing error in ``--home`` must neither make a new installation nor leave a server behind.
    """
    if not settings.database_url and not is_held(settings):
        raise NotReady(f"radir is not running in {settings.home}; start it with: radir up --home {settings.home}")


def write_state(settings: Settings, state: Mapping[str, Any], roles: str = "") -> None:
    """Replace what `read_state` returns. Raises OSError."""
    durable.replace(_state_file(settings, roles), json.dumps(state).encode())


def drop_state(settings: Settings, roles: str = "") -> None:
    """Remove what `read_state` returns, when nothing is running any more."""
    _state_file(settings, roles).unlink(missing_ok=True)


def read_state(settings: Settings) -> dict[str, Any] | None:
    """What running supervisors recorded about their processes; None when none is running in this home folder.

    Beside a supervisor of everything there is no other; those of single roles are shown as one.
    """
    if is_held(settings):
        return _read(settings)
    found = [
        state
        for file in sorted(settings.home.glob(f"{_STATE}-*.json"))
        if is_held(settings, roles := file.stem.removeprefix(f"{_STATE}-"))
        and (state := _read(settings, roles)) is not None
    ]
    if not found:
        return None
    together: dict[str, Any] = {}
    for state in found:
        together |= state
    return together | {"processes": [process for state in found for process in state.get("processes", [])]}


def end_orphans(settings: Settings, roles: str = "") -> int:
    """End what killed supervisors left in this home folder; returns how many. Needs the lock of ``roles``.

    They would keep the ports, and nothing would watch them.
    """
    sets = {file.stem.removeprefix(_STATE).removeprefix("-") for file in settings.home.glob(f"{_STATE}*.json")}
    recorded = [
        entry
        for one in sorted(sets)
        if one == roles or not is_held(settings, one)
        for entry in (_read(settings, one) or {}).get("processes", [])
    ]
    left = [process for entry in recorded if (process := _living(entry, settings)) is not None]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=_STOP_S)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_STOP_S)
    return len(left)


def _living(entry: Mapping[str, Any], settings: Settings) -> psutil.Process | None:
    """The process of an entry; None when its id belongs to another process by now (by command and home folder)."""
    pid, command = entry.get("pid"), entry.get("command")
    if not pid or not command:
        return None
    try:
        process = psutil.Process(pid)
        same = process.cmdline()[-len(command) :] == command
        home = process.environ().get(f"{ENV_PREFIX}HOME") if same else None
    except psutil.Error:
        return None
    return process if home == str(settings.home) else None


def _read(settings: Settings, roles: str = "") -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(_state_file(settings, roles).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return state


def _locked(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _state_file(settings: Settings, roles: str) -> Path:
    return settings.home / (f"{_STATE}-{roles}.json" if roles else f"{_STATE}.json")


def _lock_file(settings: Settings, roles: str) -> Path:
    return settings.home / (f"radir-{roles}.lock" if roles else "radir.lock")
