"""The file that receives the data set of a C-STORE. Writing to it never raises; it remembers the failure instead.

If an instance is too large or the disk is full, the peer gets a status (PS3.4 B.2.3) and the connection stays open.
Whatever arrives after the failure is read and discarded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any

from radir_pacs.errors import RadirError, StorageFailed, TooLarge

_MIB = 1 << 20


class InstanceFile:
    """Replaces the temporary file of pynetdicom. ``failure`` says why the instance cannot be kept."""

    def __init__(self, made: Any, *, most_bytes: int, failure: RadirError | None = None) -> None:
        """``made``: a named temporary file, or None if it could not be created."""
        self._file: IO[bytes] | None = made
        self.name: str = made.name if made is not None else ""
        self._most_bytes, self._bytes = most_bytes, 0
        self.failure = failure

    @property
    def file(self) -> InstanceFile:
        """The attribute under which ``NamedTemporaryFile`` offers the wrapped file."""
        return self

    def write(self, data: bytes) -> int:
        self._bytes += len(data)
        if self._bytes > self._most_bytes and self.failure is None:
            self.failure = TooLarge(f"the instance is larger than max_instance_mib, {self._most_bytes // _MIB} MiB")
        if self.failure is None and self._file is not None:
            with self._disk():
                self._file.write(data)
        return len(data)

    def flush(self) -> None:
        if self.failure is None and self._file is not None:
            with self._disk():
                self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            with self._disk():
                self._file.close()

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.failure is None:
                self.failure = StorageFailed(f"the disk refused the instance: {error.strerror or type(error).__name__}")
            self._empty()

    def _empty(self) -> None:
        """Free the space at once for other senders."""
        with contextlib.suppress(OSError):
            os.truncate(self.name, 0)
