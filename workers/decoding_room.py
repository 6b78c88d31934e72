"""Who decodes on this machine at one time: any number of studies, or one alone.

A decoding child that was killed most likely met a kernel short of memory. Its study is tried again with no other
decoding beside it, in whichever worker. Two file locks in one folder see to it; the kernel drops them with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_LOOK_AGAIN_S = 0.05


class GivenUp(Exception):
    """Nobody wants this study read any more."""


class DecodingRoom:
    """``folder`` is shared by the workers of a machine. Every method waits, until ``given_up`` is set."""

    def __init__(self, folder: Path) -> None:
        self._door = folder / "decoding-door.lock"  # held while entering, and by whoever wants the room alone
        self._room = folder / "decoding-room.lock"

    @contextlib.contextmanager
    def shared(self, given_up: threading.Event | None = None) -> Iterator[None]:
        """Decode beside others. Raises GivenUp."""
        with contextlib.ExitStack() as entered:
            with _locked(self._door, fcntl.LOCK_EX, given_up):
                entered.enter_context(_locked(self._room, fcntl.LOCK_SH, given_up))
            yield

    @contextlib.contextmanager
    def alone(self, given_up: threading.Event | None = None) -> Iterator[None]:
        """Decode with nobody beside: those inside end first, newcomers wait at the door. Raises GivenUp."""
        with _locked(self._door, fcntl.LOCK_EX, given_up), _locked(self._room, fcntl.LOCK_EX, given_up):
            yield


@contextlib.contextmanager
def _locked(path: Path, how: int, given_up: threading.Event | None) -> Iterator[None]:
    given_up = given_up or threading.Event()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, how | fcntl.LOCK_NB)
                break
            if given_up.wait(_LOOK_AGAIN_S):
                raise GivenUp
        yield
    finally:
        os.close(handle)
