"""A backup or a restore that is killed anywhere is repeated, and nothing half done is ever taken for whole."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from radir_pacs import config
from radir_pacs.backup.checking import check
from radir_pacs.backup.making import back_up
from radir_pacs.backup.restoring import SETTINGS_BEFORE, restore
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.backup import open_repository
from radir_pacs.cli.restore import run as run_restore
from radir_pacs.cli.state import only_one
from radir_pacs.config import Settings
from radir_pacs.errors import BackupDamaged, Conflict, NotFound, NotReady, SettingError, StorageFailed
from radir_pacs.storage import open_blobs
from radir_pacs.storage.s3 import Bucket
from radir_pacs.storage.s3_blobs import S3BlobStore
from radir_pacs.types import JobKind
from tests.catalogue_material import MODEL, encoded, header, register
from tests.conftest import free_port
from tests.s3_server import s3_server

FILES = 6


@pytest.fixture
def house(settings: Settings, catalogue: Catalogue) -> list[str]:
    """An archive of a few studies, with a stale generation and a job under way; returns the hashes of its files.

    Its transaction ids are those of a server that has seen far more than the tests' has.
    """
    register(catalogue)
    blobs, hashes = open_blobs(settings), []
    for number in range(1, FILES + 1):
        sha256, size_bytes = blobs.put(b"DICM" + bytes([number]) * 1000)
        catalogue.instances.add(header(number), content_sha256=sha256, size_bytes=size_bytes, source="TEST")
        hashes.append(sha256)
    encoded(catalogue, 101)
    encoded(catalogue, 102)
    catalogue.studies.delete("2.25.102")
    catalogue.generations.record(MODEL, "chest", name="g-stale", count=1, as_of="4000000000", manifest={})
    assert catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.PULL, "2.25.7"), "worker of before") is not None
    with psycopg.connect(settings.database_url) as connection:
        for table in ("encoding", "encoding_gone", "feed_horizon"):
            connection.execute(f"UPDATE {table} SET xid = '4000000000'".encode())
        connection.execute("DELETE FROM instance WHERE study_uid IN ('2.25.101', '2.25.102')")
    (settings.home / "reference.key").write_bytes(bytes(32))
    (settings.home / "radir.toml").write_text("web_port = 8080")
    return hashes


@pytest.fixture
def empty(postgres: str, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """The settings of another machine with an empty database."""
    name = f"radir_restored_{free_port()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield replace(settings, home=tmp_path / "other", database_url=make_conninfo(postgres, dbname=name))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def killed(settings: Settings, point: str, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADIR_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.killed_backup", point, str(folder)],
        env=environment | config.to_environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_anywhere_and_done_again(
    house: list[str], settings: Settings, catalogue: Catalogue, empty: Settings, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    for point in ("copy-files", "copy-dump", "copy-end"):
        killed(settings, point, target)
        with pytest.raises(NotFound, match="no whole snapshot"):
            open_repository(str(target), settings).manifest()
    repository = open_repository(str(target), settings)
    manifest, copied = back_up(catalogue, open_blobs(settings), settings.home, repository)
    assert (manifest.blob_count, copied.blobs) == (FILES, 0), "what was copied before it was killed is not copied again"
    assert check(repository, manifest).is_whole
    assert repository.forget(1)[0] == 0
    assert check(repository, manifest).is_whole, "what killed backups left is cleared away, and nothing else"

    for point in ("restore-files", "restore-database", "restore-settle"):
        killed(empty, point, target)
        with pytest.raises(NotReady, match="interrupted"):
            Catalogue.open(empty)
    done = restore(empty, repository, manifest)
    assert (done.blobs, done.damaged, done.audit_broken_at) == (FILES, [], None)
    with pytest.raises(Conflict, match="not empty"):
        restore(empty, repository, manifest)
    blobs = open_blobs(empty)
    assert [blobs.intact(sha256).is_file() for sha256 in house] == [True] * FILES
    assert (empty.home / "reference.key").read_bytes() == bytes(32)
    assert not (empty.home / "radir.toml").exists()
    assert (empty.home / SETTINGS_BEFORE).read_text() == "web_port = 8080"
    with Catalogue.open(empty) as restored:
        assert restored.generations.published(MODEL, "chest") is None, "a generation of before is believed"
        changes = restored.encodings.changes(MODEL, "chest")
        assert len(changes.ids) == 1, "a vector whose transaction is yet to come here would be invisible"
        assert len(changes.gone) == 0
        restored.jobs.sweep()
        assert restored.jobs.claim(restored.jobs.enqueue(JobKind.PULL, "2.25.7"), "a worker of today") is not None


def test_no_file_is_deleted_under_a_backup(
    house: list[str], settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    with catalogue.backups.alone() as connection:
        with pytest.raises(Conflict, match="being made"), catalogue.backups.alone():
            pass
        with catalogue.backups.snapshot(connection) as snapshot:
            assert catalogue.studies.delete("2.25.1") == [], "its file is left to the sweep"
            assert house[0] in catalogue.instances.known_blobs(house), "and the sweep leaves it too"
            assert house[0] in [sha256 for sha256, _ in snapshot.blobs()]
        assert house[0] in catalogue.instances.known_blobs(house)
    assert house[0] not in catalogue.instances.known_blobs(house)
    assert catalogue.studies.delete("2.25.2") == [house[1]]


def test_damage_at_home_is_named_and_the_rest_is_kept(
    house: list[str], settings: Settings, catalogue: Catalogue, empty: Settings, tmp_path: Path
) -> None:
    blobs = open_blobs(settings)
    blobs.path(house[0]).unlink()
    blobs.path(house[1]).write_bytes(b"something else")
    repository = open_repository(str(tmp_path / "backup"), settings, make=True)
    manifest, copied = back_up(catalogue, blobs, settings.home, repository)
    assert set(copied.damaged) == set(manifest.damaged) == set(house[:2])
    assert check(repository, manifest).is_whole
    object_ = next(path for path in (tmp_path / "backup").glob(f"objects/*/{house[2]}"))
    object_.write_bytes(bytes(object_.stat().st_size))
    assert check(repository, manifest).damaged == [house[2]]
    assert back_up(catalogue, blobs, settings.home, repository)[1].blobs == 0, "its size is right"
    assert check(repository, manifest, mend=True).damaged == [house[2]]
    manifest, copied = back_up(catalogue, blobs, settings.home, repository)
    assert copied.blobs == 1
    assert check(repository, manifest).is_whole
    dump = tmp_path / "backup" / "snapshots" / manifest.name / "database"
    whole = dump.read_bytes()
    dump.write_bytes(whole[: len(whole) // 2])
    assert check(repository, manifest).damaged == ["database"]
    dump.write_bytes(whole)
    restored = restore(empty, repository, manifest)
    assert restored.blobs == FILES - 2
    with Catalogue.open(empty) as other:
        assert {row.sop_uid for row in other.damage.all()} == {header(1).sop_uid, header(2).sop_uid}


def test_a_copy_that_takes_hours_holds_no_transaction(
    house: list[str], settings: Settings, catalogue: Catalogue
) -> None:
    found = catalogue.backups.blobs()
    first = next(found)
    with psycopg.connect(settings.database_url) as connection:
        waiting = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
        ).fetchone()
    assert waiting == (0,)
    assert [first[0], *(sha256 for sha256, _ in found)] == sorted(house)


def test_a_hostile_backup_writes_no_other_file(
    house: list[str], settings: Settings, catalogue: Catalogue, empty: Settings, tmp_path: Path
) -> None:
    """Whoever writes to a backup without a key writes its manifest."""
    repository = open_repository(str(tmp_path / "backup"), settings, make=True)
    manifest, _ = back_up(catalogue, open_blobs(settings), settings.home, repository)
    key = next(file for file in manifest.files if file.path == "reference.key")
    for path in ("../outside", "models/../radir.lock", "/etc/motd", "radir.env", "models"):
        with pytest.raises(BackupDamaged):
            restore(empty, repository, replace(manifest, files=[replace(key, path=path)]))
    restore(empty, repository, replace(manifest, files=[replace(key, mode=0o4777)]))
    assert (empty.home / "reference.key").stat().st_mode & 0o7777 == 0o700


def test_nothing_is_settled_while_a_process_lives(
    settings: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in config.to_environment(settings).items():
        monkeypatch.setenv(name, value)
    catalogue.processes.say_alive("worker of another machine", 1, "UP")
    with pytest.raises(Conflict, match="is running"):
        run_restore(argparse.Namespace(settle=True), settings)
    catalogue.processes.say_gone("worker of another machine", 1)
    with only_one(settings, "listener"), pytest.raises(Conflict, match="is running"):
        run_restore(argparse.Namespace(settle=True), settings)
    assert run_restore(argparse.Namespace(settle=True), settings) == 0


def test_another_key_is_refused(house: list[str], settings: Settings, catalogue: Catalogue, tmp_path: Path) -> None:
    for name in ("key", "other"):
        (tmp_path / name).write_text(("0" if name == "key" else "1") * 64)
    target = str(tmp_path / "backup")
    open_repository(target, replace(settings, backup_key=str(tmp_path / "key")), make=True)
    for wrong in ("", str(tmp_path / "other")):
        with pytest.raises(SettingError, match="backup_key"):
            open_repository(target, replace(settings, backup_key=wrong))


@pytest.fixture
def bucket(empty: Settings, tmp_path: Path) -> Iterator[Settings]:
    """The other machine, with its files in a bucket of an S3 server."""
    with s3_server() as endpoint:
        yield replace(
            empty,
            blob_store=f"s3://radir/{tmp_path.name}",
            s3_endpoint=endpoint,
            s3_access_key_id="test",
            s3_secret_access_key="test",
        )


def test_a_bucket_is_filled_again_and_no_others_is_touched(
    house: list[str],
    settings: Settings,
    catalogue: Catalogue,
    bucket: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = open_repository(str(tmp_path / "backup"), settings, make=True)
    manifest, _ = back_up(catalogue, open_blobs(settings), settings.home, repository)
    foreign, _ = open_blobs(replace(bucket, home=tmp_path / "live"), "a live installation").put(b"came since")
    with pytest.raises(Conflict, match="same-bucket"):
        restore(bucket, repository, manifest)
    assert not bucket.home.exists() or not any(bucket.home.glob("*.toml*"))

    real, calls = Bucket.put, []

    def breaks(self: Bucket, name: str, content: object) -> None:
        calls.append(name)
        if len(calls) > 3:  # the owner, and two files
            raise StorageFailed("the server stays away")
        real(self, name, content)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "put", breaks)
        with pytest.raises(StorageFailed):
            restore(bucket, repository, manifest, same_bucket=True)
    assert restore(bucket, repository, manifest).blobs == FILES, "its own restore goes on in a bucket that is not empty"
    elsewhere = open_blobs(replace(bucket, home=tmp_path / "elsewhere"))
    for sha256 in house:
        assert elsewhere.intact(sha256).is_file(), "counted as restored, and only in the folder beside the bucket"
    with Catalogue.open(bucket) as restored:
        assert restored.backups.installation() != catalogue.backups.installation()
        mine = open_blobs(bucket, restored.backups.installation())
        assert isinstance(mine, S3BlobStore)
        assert mine.sweep(restored.instances.known_blobs) == 0, "it is young"
    assert open_blobs(replace(bucket, home=tmp_path / "live"), "a live installation").stands(foreign)
