"""A backup is made while everything runs: blobs, one snapshot of the database, then the blobs that came since.

Blobs never change under their hash, so that all that could go wrong between the two is that one is deleted: while the
snapshot is taken and until its last blob is copied, none is (`Backups.snapshot`).
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from radir_pacs import __version__
from radir_pacs.backup import home_files
from radir_pacs.backup.repository import KeptFile, Manifest, Repository
from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import BlobDamaged
from radir_pacs.storage.blobs import BlobStore

THREADS = 4  # each waits for a disk or a network most of the time
_BATCH = 64

Bar = Callable[[str, int], Callable[[int], None]]  # title, total (0: not known) -> told how much is done


@dataclass(kw_only=True)
class Copied:
    """What a backup wrote, and removed."""

    blobs: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    snapshots_removed: int = 0
    objects_removed: int = 0


def back_up(
    catalogue: Catalogue,
    blobs: BlobStore,
    home: Path,
    repository: Repository,
    *,
    without_tokens: bool = False,
    keep: int | None = None,
    start_bar: Bar = lambda title, total: lambda done: None,
) -> tuple[Manifest, Copied]:
    """Add a snapshot, and remove all but the ``keep`` newest.

    One that was interrupted leaves its blobs, which the next one does not copy again.

    Raises Conflict while another is made, StorageFailed.
    """
    made_at = datetime.now(UTC)
    name = f"{made_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    total = Copied()
    with catalogue.backups.alone() as connection:
        _copy(catalogue.backups.blobs(), blobs, repository, total, start_bar("DICOM files", 0))
        before = _copy_files(home, repository)
        with catalogue.backups.snapshot(connection, without_tokens=without_tokens) as snapshot:
            tables, schema_version = snapshot.counts(), snapshot.schema_version()
            database = repository.write_part(name, "database", _told(snapshot.dump(), start_bar("database, MiB", 0)))
            listed = repository.write_part(name, "blobs", _lines(snapshot.blobs()))
        manifest = Manifest(
            name=name,
            made_at=made_at,
            version=__version__,
            schema_version=schema_version,
            tables=tables,
            database=database,
            blobs=listed,
            blob_count=0,
            blob_bytes=0,
        )
        total.damaged.clear()  # what was deleted while the first pass looked for it is no damage
        count, size = _copy(
            repository.blobs_of(manifest), blobs, repository, total, start_bar("DICOM files that came since", 0)
        )
        files = {file.path: file for file in (*before, *_copy_files(home, repository))}  # bundles that came since
        manifest = Manifest(
            **vars(manifest)
            | {"blob_count": count, "blob_bytes": size, "files": list(files.values()), "damaged": total.damaged}
        )
        repository.finish(manifest)
        if keep is not None:
            total.snapshots_removed, total.objects_removed = repository.forget(keep)
    return manifest, total


def _copy(
    wanted: Iterable[tuple[str, int | None]],
    blobs: BlobStore,
    repository: Repository,
    total: Copied,
    say_done: Callable[[int], None],
) -> tuple[int, int]:
    """Copy what does not stand; returns (blobs, their bytes where known). Damaged ones are noted in ``total``."""
    seen = seen_bytes = 0

    def copy(sha256: str) -> int:
        written = 0

        def content() -> Iterator[bytes]:
            nonlocal written
            for piece in blobs.read(sha256):
                written += len(piece)
                yield piece

        try:
            repository.write_file(sha256, content())
        except BlobDamaged:
            return -1
        return written

    with ThreadPoolExecutor(THREADS) as pool:
        for first_letters, group in itertools.groupby(wanted, key=lambda blob: blob[0][:2]):
            standing = repository.standing(first_letters)
            for batch in _batches(group):
                lacking = [sha256 for sha256, size in batch if not repository.stands(standing, sha256, size)]
                for sha256, written in zip(lacking, pool.map(copy, lacking), strict=True):
                    if written < 0:
                        total.damaged.append(sha256)
                    else:
                        total.blobs += 1
                        total.bytes += written
                seen += len(batch)
                seen_bytes += sum(size or 0 for _, size in batch)
                say_done(seen)
    return seen, seen_bytes


def _copy_files(home: Path, repository: Repository) -> list[KeptFile]:
    kept = []
    for path in home_files.found(home):
        with home_files.opened(home, path) as found:
            if found is None:
                continue
            file, content = found
            if not repository.stands(repository.standing(file.sha256[:2]), file.sha256, file.size_bytes):
                repository.write_file(file.sha256, content)
            kept.append(file)
    return kept


def _batches(found: Iterable[tuple[str, int | None]]) -> Iterator[list[tuple[str, int | None]]]:
    rest = iter(found)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch


def _lines(found: Iterable[tuple[str, int | None]]) -> Iterator[bytes]:
    rest = iter(found)
    while batch := list(itertools.islice(rest, 1000)):
        yield "".join(f"{sha256} {'' if size is None else size}\n" for sha256, size in batch).encode()


def _told(content: Iterable[bytes], say_done: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    for piece in content:
        done += len(piece)
        say_done(done >> 20)
        yield piece
