"""Where a backup is kept, a folder or a bucket: objects by name, each whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from radir_pacs import durable
from radir_pacs.config import Settings
from radir_pacs.errors import NotFound, StorageFailed
from radir_pacs.storage.s3 import SCHEME, Bucket, S3Address

_READ_BYTES = 1 << 20
_PARTIAL = ".partial"


class BackupPlace(Protocol):
    """Names are relative paths of plain characters. Every method raises StorageFailed when the place refuses."""

    def __str__(self) -> str:
        """As an administrator knows it."""

    def put(self, name: str, content: Iterable[bytes]) -> None:
        """Store an object in place of one that stands; durable at the end, and absent when ``content`` raises."""

    def get(self, name: str) -> Iterator[bytes]:
        """Raises NotFound, at once or when the first piece is asked for."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Name and size in bytes of each object below a folder, "" for all."""

    def delete(self, name: str) -> None:
        """One that is not there is no error."""


class FolderPlace:
    """Objects as files below ``root``, which is made at the first `put` and open to its owner only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    def put(self, name: str, content: Iterable[bytes]) -> None:
        path = self._root / name
        try:
            if not self._root.exists():
                self._root.mkdir(parents=True, mode=0o700, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            with durable.replacing(path, mode=0o600) as partial, partial.open("wb") as file:
                file.writelines(content)
        except OSError as error:
            raise self._failed(error) from error

    def get(self, name: str) -> Iterator[bytes]:
        try:
            with (self._root / name).open("rb") as file:
                while piece := file.read(_READ_BYTES):
                    yield piece
        except FileNotFoundError:
            raise NotFound(f"the backup has no {name}") from None
        except OSError as error:
            raise self._failed(error) from error

    def sizes(self, folder: str) -> dict[str, int]:
        found = {}
        try:
            for path, _, names in os.walk(self._root / folder):
                for name in names:
                    if not name.endswith(_PARTIAL):
                        whole = Path(path) / name
                        found[whole.relative_to(self._root).as_posix()] = whole.stat().st_size
        except OSError as error:
            raise self._failed(error) from error
        return found

    def delete(self, name: str) -> None:
        try:
            (self._root / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageFailed:
        return StorageFailed(f"the backup's folder {self._root}: {error.strerror or 'cannot be used'}")


class BucketPlace:
    """Objects of a bucket."""

    def __init__(self, address: S3Address) -> None:
        self._bucket, self._url = Bucket(address), address.url

    def __str__(self) -> str:
        return self._url

    def put(self, name: str, content: Iterable[bytes]) -> None:
        self._bucket.put(name, content)

    def get(self, name: str) -> Iterator[bytes]:
        return self._bucket.stream(name)

    def sizes(self, folder: str) -> dict[str, int]:
        return {found.name: found.size_bytes for page in self._bucket.pages(folder) for found in page}

    def delete(self, name: str) -> None:
        self._bucket.delete(name)


def place_of(written: str, settings: Settings) -> BackupPlace:
    """The place that a command line names: a folder, or s3://bucket/prefix. Raises SettingError."""
    if written.startswith(SCHEME):
        return BucketPlace(S3Address.of(written, settings))
    return FolderPlace(Path(written).expanduser().resolve())
