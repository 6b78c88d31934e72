"""Durable content-addressed files: a blob is named by the SHA-256 of its bytes, and durable once `commit` returns (P1).

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
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from radir_pacs import durable
from radir_pacs.errors import BlobDamaged, StorageFailed

YOUNG_S = 300.0  # far longer than any transaction that may follow a rename
ABANDONED_S = 7200.0  # longer than any association: an older incoming file has no writer
_HASTENED_BYTES = 1 << 18  # a smaller file is written as fast by its fsync, and may be refused before
_HASH = re.compile(r"[0-9a-f]{64}")
SWEEP_PARTS = 256  # one per folder below the root, so that no sweep walks through all files at once
_SWEEP_BATCH = 1000
_READ_BYTES = 1 << 20


class IncomingBlob:
    """A blob being received. Used as a context manager: gone at its end unless it was named."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._target: Path | None = None
        self._is_durable = False
        self._path = store.incoming_folder / os.urandom(8).hex()
        self._handle: int | None = None
        with _storage():
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @property
    def path(self) -> Path:
        """The file, with all that was written so far readable in it, and on its way to the disk."""
        if self._handle is not None and self._size_bytes > _HASTENED_BYTES:
            with contextlib.suppress(OSError):  # Linux begins to write back: whoever reads the file needs that long
                os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)
        return self._path

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append; returns the number of bytes, as a file does. Raises StorageFailed when the disk refuses."""
        assert self._handle is not None
        with _storage():
            written = os.write(self._handle, data)
            while written < len(data):
                written += os.write(self._handle, memoryview(data)[written:])
        self._hash.update(data)
        self._size_bytes += len(data)
        return len(data)

    def commit(self) -> tuple[str, int]:
        """Make it durable under its hash; returns (sha256, size in bytes)."""
        named = self.name()
        self.sync()
        return named

    def name(self) -> tuple[str, int]:
        """Give it its name, unless that stands already; returns (sha256, size in bytes). `sync` makes it durable."""
        sha256 = self._hash.hexdigest()
        target = self._store.place(sha256)
        assert self._handle is not None
        with _storage():
            if os.fstat(self._handle).st_size != self._size_bytes:
                raise StorageFailed("the file does not hold what was written to it")
            if self._store.give_name(self._path, target):
                self._path.unlink()
                self._path = target
        self._target = target
        return sha256, self._size_bytes

    def sync(self) -> None:
        """Make what was named durable, once: the file, then the folders on the way to it. Raises StorageFailed."""
        assert self._target is not None
        if self._is_durable:
            return
        assert self._handle is not None
        self._store.keep(self._hash.hexdigest(), self._path)
        with _storage():
            try:
                os.fsync(self._handle)
            except OSError:
                with contextlib.suppress(OSError):  # its name may be another writer's by now, but its space is free
                    os.ftruncate(self._handle, 0)
                raise
            if self._path != self._target:
                self._path.rename(self._target)
                self._path = self._target
            self._store.sync_way(self._target)
            self._close()
        self._is_durable = True

    def take_place(self) -> None:
        """Replace what stands under its name, for a store whose folder only holds copies. Raises StorageFailed."""
        target = self._store.place(self._hash.hexdigest())
        with _storage():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.rename(target)
        self._path = self._target = target

    def discard(self) -> None:
        """Remove what has no name. Raises nothing."""
        with contextlib.suppress(OSError):
            self._close()
        if self._path != self._target:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class BlobStore:
    """Blobs under ``root/ab/<sha256>``. Threads and processes may share a root.

    Earlier releases made 65,536 folders, ``root/ab/cd``, most of them for one new file each and with a sync of their
    own; what stands there stays there.
    """

    is_remote = False  # whether to make a blob durable takes a network, and may take long

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

    def keep(self, sha256: str, path: Path) -> None:
        """Make the content durable beyond this folder, where a store has such a place. Raises StorageFailed."""

    def path(self, sha256: str) -> Path:
        """A file with the blob's content, which nobody checked; where it would stand if there is none.

        Raises ValueError for what is not a SHA-256 in lower-case hex.
        """
        return self.place(sha256)

    def place(self, sha256: str) -> Path:
        """Where a blob stands in the folder, or would. Raises ValueError as `path`."""
        if not is_hash(sha256):
            raise ValueError("not a SHA-256 in hex")
        folder = self.root / sha256[:2]
        earlier = folder / sha256[2:4] / sha256
        return earlier if earlier.exists() else folder / sha256

    def intact(self, sha256: str) -> Path:
        """Where a blob stands, all of it just read and found to be what was stored.

        Raises BlobDamaged when it is not, or is not there, ValueError as `path`.
        """
        path = self.place(sha256)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:  # gone, or the disk cannot read it
            raise BlobDamaged(sha256) from error
        if found != sha256:
            raise BlobDamaged(sha256)
        return path

    def stands(self, sha256: str) -> bool:
        """Whether anything of a blob is left, whole or not."""
        return self.place(sha256).exists()

    def size(self, sha256: str) -> int:
        """Bytes of a blob, 0 for one that is not there."""
        try:
            return self.path(sha256).stat().st_size
        except OSError:
            return 0

    def read(self, sha256: str) -> Iterator[bytes]:
        """The bytes of a blob, in pieces. Raises BlobDamaged, at the end too: what came may not be what was stored."""
        found = hashlib.sha256()
        try:
            with self.path(sha256).open("rb") as file:
                while piece := file.read(_READ_BYTES):
                    found.update(piece)
                    yield piece
        except OSError as error:
            raise BlobDamaged(sha256) from error
        if found.hexdigest() != sha256:
            raise BlobDamaged(sha256)

    def put(self, data: bytes) -> tuple[str, int]:
        """Store these bytes; returns (sha256, size in bytes). Raises StorageFailed."""
        with self.incoming() as blob:
            blob.write(data)
            return blob.commit()

    def delete(self, sha256: str) -> bool:
        """Remove a blob that no instance names. False: it is young, and `sweep` will look at it again."""
        path = self.path(sha256)
        if age_s(path) < YOUNG_S:
            return False
        with _storage():
            path.unlink(missing_ok=True)
        return True

    def usage(self, part: int) -> tuple[int, int]:
        """(files, bytes) of one of ``SWEEP_PARTS``."""
        sizes = []
        for names in self._batches(f"{part:02x}"):
            for name in names:
                with contextlib.suppress(OSError):  # gone meanwhile
                    sizes.append(self.path(name).stat().st_size)
        return len(sizes), sum(sizes)

    def sweep(self, known: Callable[[Sequence[str]], frozenset[str]], part: int | None = None) -> int:
        """Remove blobs that no instance names and incoming files without a writer; returns how many.

        known: tells which of some hashes an instance names. part: one of ``SWEEP_PARTS``, all by default. Young blobs
        are left alone: their row may be on its way.
        """
        removed = self.sweep_incoming()
        for names in self._batches("[0-9a-f][0-9a-f]" if part is None else f"{part:02x}"):
            for name in set(names) - known(names):
                removed += self.delete(name)
        return removed

    def sweep_incoming(self) -> int:
        """Remove incoming files without a writer; returns how many."""
        removed = 0
        for path in self.incoming_folder.iterdir():
            if path.is_file() and age_s(path) > ABANDONED_S:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _batches(self, folder: str) -> Iterator[list[str]]:
        batch: list[str] = []
        earlier = self.root.glob(f"{folder}/[0-9a-f][0-9a-f]/*")
        for path in itertools.chain(self.root.glob(f"{folder}/*"), earlier):
            if is_hash(path.name):
                batch.append(path.name)
            if len(batch) == _SWEEP_BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def give_name(self, path: Path, name: Path) -> bool:
        """Give a file a second name; False when the name stands already, or the file system knows no hard links.

        Raises OSError.
        """
        while True:
            try:
                name.hardlink_to(path)
                return True
            except FileExistsError:
                return False
            except FileNotFoundError:
                if not path.exists():
                    raise
                self._durable.discard(name.parent)  # should somebody have removed it
                name.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise
                name.parent.mkdir(parents=True, exist_ok=True)
                return False

    def sync_way(self, path: Path) -> None:
        """Make all entries on the way to a blob durable. Raises OSError.

        From the inside out: the journal that the first one writes holds the others too. A folder that another process
        made may not be durable yet, so each process syncs once what it finds.
        """
        folder = path.parent
        durable.sync(folder)
        while folder != self.root:
            if folder not in self._durable:
                durable.sync(folder.parent)
                self._durable.add(folder)
            folder = folder.parent


def is_hash(name: str) -> bool:
    """Whether it is a SHA-256 in lower-case hex."""
    return _HASH.fullmatch(name) is not None


def age_s(path: Path) -> float:
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
