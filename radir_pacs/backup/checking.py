"""A backup read as a restore would read it: every file's hash, the rows of every table. It needs no database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from radir_pacs.backup.making import THREADS, Bar
from radir_pacs.backup.repository import Manifest, Repository
from radir_pacs.catalogue import rows_in_dump
from radir_pacs.errors import BackupDamaged, NotFound, StorageFailed

_BATCH = 64


@dataclass(kw_only=True)
class Checked:
    """``damaged`` and ``missing``: hashes of DICOM files, paths of the home folder's, "database", "blobs"."""

    files: int = 0
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)  # those that differ: rows expected, found

    @property
    def is_whole(self) -> bool:
        return not (self.damaged or self.missing or self.tables)


def check(
    repository: Repository, manifest: Manifest, start_bar: Bar = lambda title, total: lambda done: None
) -> Checked:
    """Blobs that were damaged at home already are not in the backup, and are not looked for."""
    found = Checked()
    known_lost = set(manifest.damaged)
    for file in manifest.files:
        _look(file.path, repository.read_file(file.sha256), found)
    say_done = start_bar("files", manifest.blob_count)
    with ThreadPoolExecutor(THREADS) as pool:

        def blobs() -> None:
            wanted = (sha256 for sha256, _ in repository.blobs_of(manifest) if sha256 not in known_lost)
            while batch := list(itertools.islice(wanted, _BATCH)):
                list(pool.map(lambda sha256: _look(sha256, repository.read_file(sha256), found), batch))
                say_done(found.files)

        try:
            blobs()
        except NotFound:
            found.missing.append("blobs")
        except BackupDamaged:
            found.damaged.append("blobs")
    try:
        rows = rows_in_dump(repository.read_part(manifest, "database"))
    except NotFound:
        found.missing.append("database")
    except (BackupDamaged, StorageFailed):
        found.damaged.append("database")
    else:
        found.tables = {
            name: (count, rows.get(name, 0)) for name, count in manifest.tables.items() if rows.get(name, 0) != count
        }
    return found


def _look(name: str, content: Iterator[bytes], found: Checked) -> None:
    try:
        for _ in content:
            pass
    except NotFound:
        found.missing.append(name)
    except BackupDamaged:
        found.damaged.append(name)
    found.files += 1
