"""A bell: what a thread that waits for a peer hears at once, whoever rings it."""

from __future__ import annotations

import contextlib
import os
import threading


class Bell:
    """An event counter of Linux (eventfd), to be polled beside a socket. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a handle that was closed may be another file's by now
        self._handle: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For polling, by the thread that closes it."""
        return -1 if self._handle is None else self._handle

    def ring(self) -> None:
        """Wake the thread that polls, now or at its next poll. Nothing, once it is closed."""
        with self._lock:
            if self._handle is not None:
                os.eventfd_write(self._handle, 1)

    def hear(self) -> None:
        """Forget what was rung so far."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fileno())

    def close(self) -> None:
        """Give the handle back."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        self.close()
