"""Files that are complete or absent, even after a power failure: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_ANYBODY = 0o666  # within the umask


def replace(path: Path, content: bytes | memoryview, mode: int = _ANYBODY) -> None:
    """Replace whatever ``path`` names by a file with this content. Raises OSError; the old one then stays."""
    with replacing(path, mode) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, mode: int = _ANYBODY) -> Iterator[Path]:
    """A file to write to, by whatever program; at the end of the body it takes the place of ``path``.

    It is gone when the body raises. Raises OSError.
    """
    partial = _beside(path, mode)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def create(path: Path, content: bytes, mode: int = _ANYBODY) -> bool:
    """Make a file with this content unless ``path`` is there already, as another process may have made it meanwhile.

    False: it is there, with content of its own. Raises OSError.
    """
    partial = _beside(path, mode)
    try:
        partial.write_bytes(content)
        sync(partial)
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)
    return True


def _beside(path: Path, mode: int) -> Path:
    """A new empty file in the same folder, under a name that no other writer has."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
    return partial


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
