"""Who decodes on this machine at one time: any number of studies, or one alone.

A decoding child that was killed was most likely killed by the kernel for lack of memory. Its study is tried again with
no other decoding beside it, in whichever worker. Two file locks in one folder see to it; the kernel drops them with
the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class DecodingRoom:
    """``folder`` is shared by the workers of a machine. Every method waits."""

    def __init__(self, folder: Path) -> None:
        self._door = folder / "decoding-door.lock"  # held while entering, and by whoever wants the room alone
        self._room = folder / "decoding-room.lock"

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Decode beside others."""
        with contextlib.ExitStack() as entered:
            with _locked(self._door, fcntl.LOCK_EX):
                entered.enter_context(_locked(self._room, fcntl.LOCK_SH))
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Decode with nobody beside: those inside end first, newcomers wait at the door."""
        with _locked(self._door, fcntl.LOCK_EX), _locked(self._room, fcntl.LOCK_EX):
            yield


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)
