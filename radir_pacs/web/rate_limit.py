"""How many requests a caller may send in a minute, counted for all web processes of this machine together.

The counters are a small file in memory that the processes share: a request costs some microseconds and no round trip.
The file is on this machine (a lock over a network would hold every request up), and has its blocks before it is mapped:
writing to a page for which a full disk has none would end the process.
A slot holds a hash of the caller and the moment until which its allowance is used up (the generic cell rate algorithm,
ITU-T I.371 annex A): what was not used for a minute may be used at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_SLOT = struct.Struct("<Qd")  # hash of the caller, seconds of the monotonic clock
_SLOTS = 1 << 14
_BYTES = _SLOTS * _SLOT.size
_PROBED = 16  # slots in which a caller may be; the one that is used up least gives way
_WINDOW_S = 60.0


class RateLimit:
    """``path``: of the file, None where one process answers; without ``per_minute`` nobody is limited, nor where the
    file cannot be had. Safe for many threads and processes."""

    def __init__(self, path: Path | None, per_minute: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._path, self._per_minute, self._clock_s = path, per_minute, clock_s
        self._lock = threading.Lock()
        self._shared: mmap.mmap | None = None
        self._file = -1
        self._has_failed = False

    def wait_s(self, caller: str) -> float:
        """Count a request; for how many seconds it has to wait instead, 0 where it may go on."""
        if not self._per_minute:
            return 0.0
        key = int.from_bytes(hashlib.blake2b(caller.encode(), digest_size=8).digest(), "little") or 1
        with self._lock:
            try:
                if self._shared is None:
                    self._shared = self._open()
                with self._locked():
                    return self._count(self._shared, key)
            except OSError as error:
                if not self._has_failed:
                    log.warning("requests are not limited", extra={"error": type(error).__name__})
                self._has_failed = True
                return 0.0

    def _open(self) -> mmap.mmap:
        if self._path is None:
            return mmap.mmap(-1, _BYTES)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(file, 0, _BYTES)
            shared = mmap.mmap(file, _BYTES)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return shared

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self._file < 0:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _count(self, shared: mmap.mmap, key: int) -> float:
        now_s = self._clock_s()
        place, used_until_s = _found(shared, key)
        if not now_s <= used_until_s <= now_s + _WINDOW_S:  # used up long ago, or before the machine started anew
            used_until_s = now_s
        used_until_s += _WINDOW_S / self._per_minute
        wait_s = used_until_s - now_s - _WINDOW_S
        if wait_s > 1e-9:
            return wait_s
        _SLOT.pack_into(shared, place, key, used_until_s)
        return 0.0


def _found(shared: mmap.mmap, key: int) -> tuple[int, float]:
    """The caller's slot, or one that it may take."""
    first = key % _SLOTS
    least: tuple[float, int] | None = None
    for step in range(_PROBED):
        place = (first + step) % _SLOTS * _SLOT.size
        held, used_until_s = _SLOT.unpack_from(shared, place)
        if held == key:
            return place, used_until_s
        if least is None or used_until_s < least[0]:
            least = (used_until_s, place)
    assert least is not None
    return least[1], float("-inf")
