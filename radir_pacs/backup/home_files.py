"""What of the home folder is in a backup besides database and blobs: whatever could not be made again.

Not in it: the index (made again from the vectors in the database), logs, OHIF, the work of a training, lock files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from radir_pacs.backup.repository import KeptFile

_FILES = (
    "radir.toml",
    "reference.key",
    "pseudonym.key",
)  # settings with their tokens; keys of references, of data sets
_FOLDERS = ("models", "pulled", "retraining")  # bundles; how far FHIR was pulled; plans, challengers and evidence
_NOT_FOLDERS = frozenset({"work"})
_READ_BYTES = 1 << 20


def found(home: Path) -> Iterator[Path]:
    """The files that stand now, by name."""
    yield from (home / name for name in _FILES if (home / name).is_file())
    for folder in _FOLDERS:
        for path in sorted((home / folder).rglob("*")):
            inner = path.relative_to(home).parts
            if path.is_file() and not path.is_symlink() and not _is_passing(inner):
                yield path


def read(home: Path, path: Path) -> tuple[KeptFile, Iterator[bytes]] | None:
    """A file and its content, as it was when it was opened; None for one that is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = file.tell()
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    kept = KeptFile(path=path.relative_to(home).as_posix(), sha256=sha256, size_bytes=size_bytes, mode=mode)

    def content() -> Iterator[bytes]:
        with file:
            file.seek(0)
            left = size_bytes  # a file that grows is kept as it was
            while left and (piece := file.read(min(left, _READ_BYTES))):
                left -= len(piece)
                yield piece

    return kept, content()


def _is_passing(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part in _NOT_FOLDERS for part in parts) or parts[-1].endswith(".log")
