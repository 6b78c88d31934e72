"""Durable content-addressed files: a blob is named by the SHA-256 of its bytes and is durable once `commit` returns (P1).

Bytes go to a temporary file on the same file system. New content gets its name first; then the file is fsynced, and the
folders on the way to it, which one write to the file system's journal serves: half the time of a name given after the
file's fsync. A power failure in between leaves an unfinished file under a name that no catalogue row knows, as rows are
written afterwards; it is swept, or replaced when the content comes again. A name that stands already is only ever given
to a file that was fsynced before, so that nothing durable is replaced by less. Replacing starts the age of a blob anew,
and `delete` and `sweep` leave young files alone, so a blob between its name and its catalogue row cannot be lost to
somebody else who deletes the same content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from radir_pacs import durable
from radir_pacs.errors import BlobDamaged, StorageFailed

YOUNG_S = 300.0  # far longer than any transaction that may follow a rename
ABANDONED_S = 7200.0  # longer than any association: an older incoming file has no writer
_BUFFER_BYTES = 1 << 16  # smaller writes are gathered, larger ones go straight to the file
_HASH = re.compile(r"[0-9a-f]{64}")
SWEEP_PARTS = 256  # one per folder below the root, so that no sweep walks through all files at once
_SWEEP_BATCH = 1000


class IncomingBlob:
    """A blob being received. Used as a context manager: gone at its end unless committed."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        with _storage():
            handle, name = tempfile.mkstemp(dir=store.incoming_folder)
            self._path, self._file = Path(name), os.fdopen(handle, "wb", buffering=_BUFFER_BYTES)

    @property
    def path(self) -> Path:
        """The file, with all that was written so far readable in it."""
        if not self._file.closed:
            with _storage():
                self._file.flush()
        return self._path

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append; returns the number of bytes, as a file does. Raises StorageFailed when the disk refuses."""
        with _storage():
            self._file.write(data)
        self._hash.update(data)
        self._size_bytes += len(data)
        return len(data)

    def commit(self) -> tuple[str, int]:
        """Make it durable under its hash; returns (sha256, size in bytes)."""
        sha256 = self._hash.hexdigest()
        target = self._store.path(sha256)
        with _storage(), self._file:
            self._file.flush()
            if os.fstat(self._file.fileno()).st_size != self._size_bytes:
                raise StorageFailed("the file does not hold what was written to it")
            with self._store.folder(target.parent):
                is_new = self._name(target)
                self._sync()
                if not is_new:
                    self._path.rename(target)
        if is_new:
            self._path.unlink(missing_ok=True)
        return sha256, self._size_bytes

    def _name(self, target: Path) -> bool:
        """Give the file its name; False when the name stands already, or the file system knows no hard links."""
        try:
            target.hardlink_to(self._path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                return False
            raise
        return True

    def _sync(self) -> None:
        """On failure the file is emptied: it may have its name, which is another writer's by now, and frees its space."""
        try:
            os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), 0)
            raise

    def discard(self) -> None:
        """Remove what is not committed. Raises nothing."""
        with contextlib.suppress(OSError):
            self._file.close()  # flushes: a full disk shows here too
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class BlobStore:
    """Blobs under ``root/ab/cd/<sha256>``. Threads and processes may share a root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming_folder = root / "incoming"
        self._durable: set[Path] = set()  # folders with an entry that this process has synced
        with _storage():
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o700)  # patients' images; folders above may be open to others
            self.incoming_folder.mkdir(exist_ok=True)
            durable.sync(root)

    def incoming(self) -> IncomingBlob:
        """A new blob to write to. Raises StorageFailed."""
        return IncomingBlob(self)

    def path(self, sha256: str) -> Path:
        """Where a blob stands, or would. Raises ValueError for what is not a SHA-256 in lower-case hex."""
        if not _HASH.fullmatch(sha256):
            raise ValueError("not a SHA-256 in hex")
        return self.root / sha256[:2] / sha256[2:4] / sha256

    def intact(self, sha256: str) -> Path:
        """Where a blob stands, all of it just read and found to be what was stored.

        Raises BlobDamaged when it is not, or is not there, ValueError as `path`.
        """
        path = self.path(sha256)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:  # gone, or the disk cannot read it
            raise BlobDamaged(sha256) from error
        if found != sha256:
            raise BlobDamaged(sha256)
        return path

    def put(self, data: bytes) -> tuple[str, int]:
        """Store these bytes; returns (sha256, size in bytes). Raises StorageFailed."""
        with self.incoming() as blob:
            blob.write(data)
            return blob.commit()

    def delete(self, sha256: str) -> bool:
        """Remove a blob that no instance names. False: it is young, and `sweep` will look at it again."""
        path = self.path(sha256)
        if _age_s(path) < YOUNG_S:
            return False
        with _storage():
            path.unlink(missing_ok=True)
        return True

    def sweep(self, known: Callable[[Sequence[str]], frozenset[str]], part: int | None = None) -> int:
        """Remove blobs that no instance names and incoming files without a writer; returns how many.

        known: tells which of some hashes an instance names. part: one of ``SWEEP_PARTS``, all by default. Young blobs
        are left alone: their row may be on its way.
        """
        removed = 0
        for path in self.incoming_folder.iterdir():
            if path.is_file() and _age_s(path) > ABANDONED_S:
                path.unlink(missing_ok=True)
                removed += 1
        for names in self._batches("[0-9a-f][0-9a-f]" if part is None else f"{part:02x}"):
            for name in set(names) - known(names):
                removed += self.delete(name)
        return removed

    def _batches(self, folder: str) -> Iterator[list[str]]:
        batch: list[str] = []
        for path in self.root.glob(f"{folder}/[0-9a-f][0-9a-f]/*"):
            if _HASH.fullmatch(path.name):
                batch.append(path.name)
            if len(batch) == _SWEEP_BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    @contextlib.contextmanager
    def folder(self, folder: Path) -> Iterator[None]:
        """A folder two levels down, made for the body; at the end all entries on the way to it are durable.

        Synced after the body, from the inside out: the journal that the first one writes holds the others too. A folder
        that another process made may not be durable yet, so each process syncs once what it finds.
        """
        new = [one for one in (folder.parent, folder) if one not in self._durable or not one.is_dir()]
        for one in new:
            one.mkdir(exist_ok=True)
        yield
        for one in (folder, *(one.parent for one in reversed(new))):
            durable.sync(one)
        self._durable.update(new)


def _age_s(path: Path) -> float:
    """Seconds since the file was written; infinite for one that is not there.

    One from the future, as after the clock was set back, is as if written now: it would stay young for years.
    """
    try:
        age_s = time.time() - path.stat().st_mtime
        if age_s < 0:
            with contextlib.suppress(PermissionError):  # another user's
                os.utime(path)
        return max(age_s, 0.0)
    except FileNotFoundError:
        return float("inf")


@contextlib.contextmanager
def _storage() -> Iterator[None]:
    """Turn the disk's errors into ours. Messages name no file, since names may come from a peer."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"the disk refused the file: {error.strerror or type(error).__name__}") from error
