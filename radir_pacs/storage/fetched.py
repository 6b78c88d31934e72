"""Images that the source PACS sent to be shown, since their own files are not kept here: few, and for an hour.

Each bears the hash of the file that it stands for, so that whoever knows what was erased knows what to remove here.
Processes of one machine share the folder; every other machine has its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from radir_pacs import durable
from radir_pacs.errors import StorageFailed

from .blobs import age_s, is_hash

FOLDER = "fetched"  # in the home folder
KEPT_S = 3600.0
_ABANDONED_S = 600.0  # longer than any fetch
_COMING, _LENT = ".coming", ".lent"
_MARGIN_BYTES = 64 << 20  # of the disk, beyond what is kept free


class Fetched:
    def __init__(self, home: Path, most_bytes: int, kept_free_bytes: int = 0) -> None:
        """kept_free_bytes: of the disk, for what is to stay; pictures to be shown end well before it."""
        self.folder = home / FOLDER
        self.most_bytes, self.kept_free_bytes = most_bytes, kept_free_bytes

    def get(self, sha256: str) -> Path | None:
        """What stands for the file with that hash; None where nothing does, or only what is too old."""
        path = self._place(sha256)
        return path if age_s(path) < KEPT_S else None

    def has_room(self) -> bool:
        """Whether more may come, by the disk and by the bound; what is kept makes room for what comes."""
        self.trim()
        free_bytes = shutil.disk_usage(self.folder.parent).free
        coming_bytes = sum(map(_size, self.folder.glob(f"*{_COMING}")))
        return free_bytes >= self.kept_free_bytes + _MARGIN_BYTES and coming_bytes <= self.most_bytes

    @contextmanager
    def coming(self) -> Iterator[Path]:
        """A file to write to; gone at the end of the body unless it was kept. Raises StorageFailed."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"the disk refused the folder: {error.strerror}") from error
        path = self.folder / f"{os.urandom(8).hex()}{_COMING}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, path: Path, sha256: str) -> Path:
        """Let a file that came stand for the one with that hash, as long as there is room. Raises StorageFailed."""
        place = self._place(sha256)
        try:
            durable.sync(path)  # half a picture must not bear its name after a power failure
            path.rename(place)
        except OSError as error:
            raise StorageFailed(f"the disk refused the file: {error.strerror}") from error
        self.trim(spare=place)
        return place

    def lend(self, path: Path) -> Path | None:
        """A file that is kept under a name of its own, until `give_back`: what goes meanwhile is read to its end.

        None where it has just gone; the file itself where the file system has no links.
        """
        lent = self.folder / f"{os.urandom(8).hex()}{_LENT}"
        try:
            os.link(path, lent)
        except FileNotFoundError:
            return None
        except OSError:
            return path
        return lent

    def give_back(self, path: Path) -> None:
        """Whoever lent the file has read it."""
        if path.suffix == _LENT:
            path.unlink(missing_ok=True)

    def drop(self, hashes: Sequence[str]) -> int:
        """Remove what stands for these files; returns how many did."""
        there = [path for sha256 in hashes if (path := self._place(sha256)).exists()]
        for path in there:
            path.unlink(missing_ok=True)
        return len(there)

    def count(self, hashes: Sequence[str]) -> int:
        """Of how many of these files something is here."""
        return sum(self._place(sha256).exists() for sha256 in hashes)

    def trim(self, *, spare: Path | None = None) -> None:
        """Remove what is too old, then the oldest beyond the bound, but not ``spare``."""
        left, kept = self.most_bytes, []
        for path in self.folder.glob("*"):
            if path.suffix == _LENT:
                if _lent_s(path) > _ABANDONED_S:
                    path.unlink(missing_ok=True)
                continue
            age = age_s(path)
            if age >= (_ABANDONED_S if path.suffix == _COMING else KEPT_S):
                path.unlink(missing_ok=True)
            elif path == spare or path.suffix == _COMING:
                left -= _size(path)
            else:
                kept.append((age, path))
        for _, path in sorted(kept):
            left -= _size(path)
            if left < 0:
                path.unlink(missing_ok=True)

    def _place(self, sha256: str) -> Path:
        if not is_hash(sha256):
            raise ValueError("not a SHA-256 in hex")
        return self.folder / sha256


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _lent_s(path: Path) -> float:
    """Since the names of the file changed for the last time."""
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_ctime
    return 0.0
