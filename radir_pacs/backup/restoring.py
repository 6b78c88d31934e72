"""A snapshot onto an empty machine: files, blobs, then the database, which is all or nothing.

From its begin to its end a file in the home folder says so, and no process of ours opens the catalogue meanwhile
(`Catalogue.open`). An interrupted restore is repeated: what stands whole stays.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from radir_pacs import durable
from radir_pacs.backup import home_files
from radir_pacs.backup.making import THREADS, Bar
from radir_pacs.backup.repository import KeptFile, Manifest, Repository
from radir_pacs.catalogue import (
    BEING_RESTORED,
    Catalogue,
    conninfo_of,
    database_is_empty,
    newest_schema,
    restore_database,
    rows_of,
)
from radir_pacs.config import Settings
from radir_pacs.errors import BackupDamaged, BadInput, BlobDamaged, Conflict, NotFound, StorageFailed
from radir_pacs.storage import bucket_of, open_blobs
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.storage.s3 import Bucket
from radir_pacs.storage.s3_blobs import S3BlobStore

SETTINGS_BEFORE = "radir.toml.restored"
_SETTINGS = "radir.toml"
_BATCH = 64
_STATE = ("blobs", "index", "models", "postgres", "retraining")  # of another installation, or of a restore that ended


@dataclass(kw_only=True)
class Restored:
    """``damaged``: blobs that are not there, as `radir problems` lists them; ``audit_broken_at``: a seal, or None."""

    blobs: int = 0
    files: int = 0
    damaged: list[str] = field(default_factory=list)
    tables: dict[str, int] = field(default_factory=dict)
    audit_seals: int = 0
    audit_broken_at: int | None = None


def restore(
    settings: Settings,
    repository: Repository,
    manifest: Manifest,
    start_bar: Bar = lambda title, total: lambda done: None,
    *,
    same_bucket: bool = False,
) -> Restored:
    """Fill an empty home folder, an empty database and an empty bucket. The embedded Postgres is left running.

    ``same_bucket``: the bucket may hold files; it belongs to this installation from now on, and to no earlier one.

    Raises Conflict where something stands already, BadInput for a backup of a later program, BackupDamaged and NotFound
    when database or home files cannot be read; damaged blobs are named in the result instead.
    """
    if manifest.schema_version > newest_schema():
        raise BadInput(
            f"the backup is of radir {manifest.version}, whose database has version {manifest.schema_version}; this"
            f" program knows {newest_schema()}: update it"
        )
    installation = _begin(settings, manifest, same_bucket=same_bucket)
    blobs = open_blobs(settings, installation)
    if isinstance(blobs, S3BlobStore):
        blobs.take_over()
    result = Restored()
    for file in manifest.files:
        _restore_file(settings.home, file, repository)
        result.files += 1
    _restore_blobs(blobs, repository, manifest, result, start_bar("DICOM files", manifest.blob_count))
    conninfo = conninfo_of(settings)
    if database_is_empty(conninfo):
        say_done, done = start_bar("database, MiB", manifest.database.size_bytes >> 20), 0

        def told() -> Iterator[bytes]:
            """The last piece only when all of them were found to be what was written: nothing is committed before."""
            nonlocal done
            held = b""
            for piece in repository.read_part(manifest, "database"):
                yield held
                held = piece
                done += len(piece)
                say_done(done >> 20)
            yield held

        restore_database(conninfo, told())
        result.tables = rows_of(conninfo)
        lacking = [name for name, count in manifest.tables.items() if result.tables.get(name) != count]
        if lacking:
            raise StorageFailed(f"after the restore the table {lacking[0]} has not the rows that the backup names")
    with Catalogue.open(settings, being_restored=True) as catalogue:
        result.tables = result.tables or rows_of(conninfo)
        for sha256 in {*manifest.damaged, *result.damaged}:
            catalogue.damage.note(sha256)
        catalogue.backups.settle()
        catalogue.backups.name_installation(installation)
        chain = catalogue.audit.verify()
        result.audit_seals, result.audit_broken_at = chain.seals, chain.broken_at
    (settings.home / BEING_RESTORED).unlink()
    durable.sync(settings.home)
    return result


def _begin(settings: Settings, manifest: Manifest, *, same_bucket: bool) -> str:
    """The new installation's id. Raises Conflict unless everything is empty or this very restore was interrupted."""
    marker = settings.home / BEING_RESTORED
    told = {"snapshot": manifest.name, "blob_store": settings.blob_store, "installation": str(uuid.uuid4())}
    try:
        earlier = json.loads(marker.read_text("utf-8"))
        begun = earlier["snapshot"]
    except FileNotFoundError:
        earlier, begun = {}, None
    except (ValueError, KeyError, TypeError):
        earlier, begun = {}, "another"
    if begun == manifest.name and "installation" in earlier and earlier.get("blob_store") == settings.blob_store:
        return str(earlier["installation"])
    if begun not in (None, manifest.name):
        raise Conflict(f"a restore of {begun} into {settings.home} was interrupted: end that one, or empty the folder")
    bucket = bucket_of(settings)
    if bucket is not None and not same_bucket and any(Bucket(bucket).pages("")):
        raise Conflict(
            "the bucket of blob_store is not empty: name an empty prefix, or, where the installation that it belonged"
            " to never runs again, restore with --same-bucket"
        )
    standing = [name for name in _STATE if (settings.home / name).exists() and any((settings.home / name).iterdir())]
    if standing:
        raise Conflict(f"{settings.home} is not empty, it has {standing[0]}: restore into an empty home folder")
    if settings.database_url and not database_is_empty(conninfo_of(settings)):
        raise Conflict("the database of database_url is not empty: name an empty one")
    settings.home.mkdir(parents=True, exist_ok=True)
    durable.replace(marker, json.dumps(told).encode())
    return str(told["installation"])


def _restore_file(home: Path, file: KeptFile, repository: Repository) -> None:
    """Settings come under another name: they may say that database and files are where they were before."""
    if not home_files.is_kept(file.path):
        raise BackupDamaged(file.path)
    path = home / (SETTINGS_BEFORE if file.path == _SETTINGS else file.path)
    if not path.resolve().is_relative_to(home.resolve()):
        raise BackupDamaged(file.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.replacing(path, mode=file.mode & 0o700) as partial, partial.open("wb") as written:
        written.writelines(repository.read_file(file.sha256))


def _restore_blobs(
    blobs: BlobStore, repository: Repository, manifest: Manifest, result: Restored, say_done: Callable[[int], None]
) -> None:
    lost = set(manifest.damaged)

    def one(sha256: str) -> bool:
        with suppress(BlobDamaged):  # of an earlier attempt; in the bucket, as the folder beside it may hold more
            for _ in blobs.read(sha256):
                pass
            return True
        try:
            with blobs.incoming() as incoming:
                for piece in repository.read_file(sha256):
                    incoming.write(piece)
                incoming.commit()
        except (BackupDamaged, NotFound):
            return False
        return True

    wanted = (sha256 for sha256, _ in repository.blobs_of(manifest) if sha256 not in lost)
    with ThreadPoolExecutor(THREADS) as pool:
        while batch := list(itertools.islice(wanted, _BATCH)):
            for sha256, is_there in zip(batch, pool.map(one, batch), strict=True):
                if is_there:
                    result.blobs += 1
                else:
                    result.damaged.append(sha256)
            say_done(result.blobs)
