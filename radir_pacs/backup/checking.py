"""A backup read as a restore would read it: every file's hash, the rows of every table. It needs no database."""

from __future__ import annotations

import itertools
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
    repository: Repository,
    manifest: Manifest,
    start_bar: Bar = lambda title, total: lambda done: None,
    *,
    mend: bool = False,
) -> Checked:
    """Blobs that were damaged at home already are not in the backup, and are not looked for.

    ``mend``: remove damaged files, so that the next backup copies them again.
    """
    found = Checked()
    known_lost = set(manifest.damaged)

    def look(name: str, sha256: str) -> None:
        try:
            for _ in repository.read_file(sha256):
                pass
        except NotFound:
            found.missing.append(name)
        except BackupDamaged:
            found.damaged.append(name)
            if mend:
                repository.remove_file(sha256)

    for file in manifest.files:
        look(file.path, file.sha256)
    found.files = len(manifest.files)
    say_done = start_bar("files", manifest.blob_count)
    with ThreadPoolExecutor(THREADS) as pool:

        def blobs() -> None:
            wanted = (sha256 for sha256, _ in repository.blobs_of(manifest) if sha256 not in known_lost)
            while batch := list(itertools.islice(wanted, _BATCH)):
                list(pool.map(look, batch, batch))
                found.files += len(batch)
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
