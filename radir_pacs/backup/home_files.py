"""What of the home folder is in a backup besides database and blobs: whatever could not be made again.

Not in it: the index (made again from the vectors in the database), logs, OHIF, the work of a training, lock files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from radir_pacs.backup.repository import KeptFile

FILES = (
    "radir.toml",
    "reference.key",
    "pseudonym.key",
)  # settings with their tokens; keys of references, of data sets
FOLDERS = ("models", "pulled", "retraining")  # bundles; how far FHIR was pulled; plans, challengers and evidence
_NOT_FOLDERS = frozenset({"work"})
_READ_BYTES = 1 << 20


def is_kept(path: str) -> bool:
    """Whether a path below the home folder is one that a backup may hold: what a backup says is not believed."""
    parts = PurePosixPath(path).parts
    return path in FILES or (len(parts) > 1 and parts[0] in FOLDERS and ".." not in parts)


def found(home: Path) -> Iterator[Path]:
    """The files that stand now, by name."""
    yield from (home / name for name in FILES if (home / name).is_file())
    for folder in FOLDERS:
        for path in sorted((home / folder).rglob("*")):
            inner = path.relative_to(home).parts
            if path.is_file() and not path.is_symlink() and not _is_passing(inner):
                yield path


@contextlib.contextmanager
def opened(home: Path, path: Path) -> Iterator[tuple[KeptFile, Iterator[bytes]] | None]:
    """A file and its content, as it was when it was opened: one that is replaced or grows meanwhile is kept as it was.

    None for one that is gone.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
        file.seek(0)
        kept = KeptFile(path=path.relative_to(home).as_posix(), sha256=sha256, size_bytes=size_bytes, mode=mode)
        yield kept, _first(file, size_bytes)


def _first(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    while left and (piece := file.read(min(left, _READ_BYTES))):
        left -= len(piece)
        yield piece


def _is_passing(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part in _NOT_FOLDERS for part in parts) or parts[-1].endswith(".log")
