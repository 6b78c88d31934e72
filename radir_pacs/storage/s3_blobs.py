"""Blobs in a bucket, and beside it a folder with those that were used lately.

What reads a blob reads a file: it is fetched into the folder, checked against its hash on the way, and stays there
until others are used more. P1: `IncomingBlob.sync` returns when the server has acknowledged all of it.

The object ``owner`` holds the id of the installation that the bucket belongs to. The database of another one, restored
from a backup or copied, does not know what came since, and would take it for what nobody names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from radir_pacs.errors import BlobDamaged, NotFound, StorageFailed
from radir_pacs.storage.blobs import YOUNG_S, BlobStore, age_s, is_hash
from radir_pacs.storage.s3 import Bucket, S3Address

YOUNG_THERE_S = 3600.0  # the server's clock says how old an object is: it may go wrong by most of an hour
_PARTS = 256
OWNER = "owner"  # the object that says whose bucket it is
_OWNED_S = 60.0  # how long what was read there holds for whoever only adds


class S3BlobStore(BlobStore):
    """``root``: the folder. ``most_bytes``: what it may hold for long; files of the last minutes are beyond it.

    ``installation``: who asks; without it nothing is removed.
    """

    is_remote = True

    def __init__(self, root: Path, address: S3Address, *, most_bytes: int, installation: str = "") -> None:
        super().__init__(root)
        self._bucket, self._most_bytes, self._installation = Bucket(address), most_bytes, installation
        self._owned_until_s = float("-inf")

    def take_over(self) -> None:
        """From now on the bucket belongs to this installation; an earlier one stores and removes nothing more."""
        self._bucket.put(OWNER, [self._installation.encode()])

    def _is_ours(self) -> bool:
        """Whether the bucket belongs to this installation; one that belongs to nobody does from now on."""
        if not self._installation:
            return False
        for _ in range(2):
            try:
                found = b"".join(self._bucket.stream(OWNER)).decode(errors="replace")
            except NotFound:
                self.take_over()
                continue
            is_ours = found == self._installation
            self._owned_until_s = time.monotonic() + _OWNED_S if is_ours else float("-inf")
            return is_ours
        return False

    def keep(self, sha256: str, path: Path) -> None:
        if self._installation and time.monotonic() > self._owned_until_s and not self._is_ours():
            raise StorageFailed("the bucket of blob_store belongs to another installation: name a prefix of its own")
        self._bucket.put(_name(sha256), path)

    def path(self, sha256: str) -> Path:
        """Where a blob stands here, fetched if need be; where it would stand if there is none.

        Raises StorageFailed when the server stays away.
        """
        place = self.place(sha256)
        with contextlib.suppress(OSError):
            os.utime(place)  # used just now
            return place
        with contextlib.suppress(BlobDamaged):
            self._fetch(sha256)
        return place

    def intact(self, sha256: str) -> Path:
        with contextlib.suppress(BlobDamaged):
            return super().intact(sha256)
        self._fetch(sha256)
        return self.place(sha256)

    def stands(self, sha256: str) -> bool:
        return super().stands(sha256) or self._bucket.head(_name(sha256)) is not None

    def size(self, sha256: str) -> int:
        found = self._bucket.head(_name(sha256))
        return found.size_bytes if found else 0

    def read(self, sha256: str) -> Iterator[bytes]:
        if not is_hash(sha256):
            raise ValueError("not a SHA-256 in hex")
        found = hashlib.sha256()
        try:
            for piece in self._bucket.stream(_name(sha256)):
                found.update(piece)
                yield piece
        except NotFound as error:
            raise BlobDamaged(sha256) from error
        if found.hexdigest() != sha256:
            raise BlobDamaged(sha256)

    def delete(self, sha256: str) -> bool:
        return self._is_ours() and self._delete(sha256)

    def _delete(self, sha256: str) -> bool:
        found = self._bucket.head(_name(sha256))
        if found is not None:
            if (datetime.now(UTC) - found.modified_at).total_seconds() < YOUNG_THERE_S:
                return False
            self._bucket.delete(_name(sha256))
        self.place(sha256).unlink(missing_ok=True)
        return True

    def sweep(self, known: Callable[[Sequence[str]], frozenset[str]], part: int | None = None) -> int:
        removed = self.sweep_incoming()
        if not self._is_ours():
            raise StorageFailed("the bucket of blob_store belongs to another installation: nothing there is removed")
        for number in range(_PARTS) if part is None else (part,):
            there: set[str] = set()
            for page in self._bucket.pages(f"{number:02x}"):
                names = [name for found in page if is_hash(name := found.name.rpartition("/")[2])]
                there.update(names)
                for name in set(names) - known(names):
                    removed += self._delete(name)
            _trim(self.root, number, self._most_bytes, there)
        return removed

    def usage(self, part: int) -> tuple[int, int]:
        sizes = [found.size_bytes for page in self._bucket.pages(f"{part:02x}") for found in page]
        return len(sizes), sum(sizes)

    def _fetch(self, sha256: str) -> None:
        """Raises BlobDamaged when it is not there, or not what was stored."""
        with self.incoming() as incoming:
            for piece in self.read(sha256):
                incoming.write(piece)
            incoming.take_place()


def trim_copies(root: Path, most_bytes: int) -> None:
    """Bound the folder beside a bucket, and remove incoming files without a writer; each machine has to do so.

    Raises StorageFailed, OSError.
    """
    BlobStore(root).sweep_incoming()
    for part in range(_PARTS):
        _trim(root, part, most_bytes)


def _trim(root: Path, part: int, most_bytes: int, there: set[str] | None = None) -> None:
    """Hashes are spread evenly, so each part holds its share. The least used go first; ``there``: in the bucket."""
    left = most_bytes // _PARTS
    files = sorted((age_s(path), path) for path in (root / f"{part:02x}").glob("*") if is_hash(path.name))
    for age, path in files:
        with contextlib.suppress(FileNotFoundError):
            left -= path.stat().st_size
            if age > YOUNG_S and (left < 0 or (there is not None and path.name not in there)):
                path.unlink()


def _name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"
