"""The file that a C-STORE's data set is written to as it arrives, which never raises: a failure waits for the answer.

A peer whose instance is too large, or for which the disk has no room, is told so by a status (PS3.4 B.2.3); the
connection stays. What arrives after the failure is read and thrown away.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any

from radir_pacs.errors import RadirError, StorageFailed, TooLarge

_MIB = 1 << 20


class InstanceFile:
    """Stands in for the temporary file that pynetdicom made. ``failure`` says why the instance cannot be kept."""

    def __init__(self, made: Any, *, most_bytes: int, failure: RadirError | None = None) -> None:
        """``made``: a named temporary file, None where it could not be made."""
        self._file: IO[bytes] | None = made
        self.name: str = made.name if made is not None else ""
        self._most_bytes, self._bytes = most_bytes, 0
        self.failure = failure

    @property
    def file(self) -> InstanceFile:
        """As ``NamedTemporaryFile`` names the file that it wraps."""
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
        """Give the room back at once: others store meanwhile."""
        with contextlib.suppress(OSError):
            os.truncate(self.name, 0)
