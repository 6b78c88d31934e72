"""Blobs are complete or invisible, and no blob in use is deleted."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest

from radir_pacs.errors import StorageFailed
from radir_pacs.storage.blobs import ABANDONED_S, YOUNG_S, BlobStore


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def files(store: BlobStore) -> set[Path]:
    return {path for path in store.root.rglob("*") if path.is_file()}


def make_old(path: Path, age_s: float = YOUNG_S + 1) -> None:
    os.utime(path, (time.time() - age_s,) * 2)


def test_bytes_come_back_under_their_hash(store: BlobStore) -> None:
    with store.incoming() as blob:
        blob.write(b"abc")
        blob.write(memoryview(b"def"))
        assert blob.path.read_bytes() == b"abcdef"
        sha256, size_bytes = blob.commit()
    assert (sha256, size_bytes) == (hashlib.sha256(b"abcdef").hexdigest(), 6)
    assert store.path(sha256).read_bytes() == b"abcdef"
    assert store.path(sha256) == store.root / sha256[:2] / sha256
    assert files(store) == {store.path(sha256)}


def test_what_is_not_committed_leaves_nothing(store: BlobStore) -> None:
    with pytest.raises(RuntimeError), store.incoming() as blob:
        blob.write(b"half")
        raise RuntimeError
    assert files(store) == set()


def test_the_same_bytes_are_one_file(store: BlobStore) -> None:
    assert store.put(b"x") == store.put(b"x")
    assert len(files(store)) == 1


def test_file_and_folders_are_synced_before_success(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        opened = Path(f"/proc/self/fd/{handle}")
        synced.append("file" if opened.is_file() else str(opened.readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    sha256, _ = store.put(b"durable")
    folder = store.path(sha256).parent
    way = [str(folder), str(store.root)]
    assert synced[0] == "file"
    assert synced[1:] == way, "in one journal, so the innermost first"
    store.put(b"durable")
    assert synced[4:] == way[:1], "the way to it is durable already"
    BlobStore(store.root).put(b"durable")
    assert synced[-2:] == way, "but another process cannot know"


def test_a_full_disk_is_said_and_leaves_nothing(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match="No space left"):
        store.put(b"too much")
    assert sum(path.stat().st_size for path in files(store)) == 0
    monkeypatch.undo()
    for path in files(store):
        make_old(path)
    store.sweep(lambda hashes: frozenset())
    assert files(store) == set()


def test_what_stands_is_never_replaced_by_less(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure while the same content comes again must leave what was acknowledged before."""
    sha256, _ = store.put(b"acknowledged")
    inode = store.path(sha256).stat().st_ino

    def power_failure(handle: int) -> None:
        assert store.path(sha256).stat().st_ino == inode, "the name went to a file that is not durable yet"
        raise OSError(errno.EIO, "power failure")

    monkeypatch.setattr(os, "fsync", power_failure)
    with pytest.raises(StorageFailed):
        store.put(b"acknowledged")
    assert store.path(sha256).read_bytes() == b"acknowledged"
    assert not list(store.incoming_folder.iterdir())


def test_a_file_system_without_hard_links_will_do(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    sha256, _ = store.put(b"x")
    assert files(store) == {store.path(sha256)}


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63])
def test_only_a_hash_names_a_blob(store: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        store.path(name)


def test_a_young_blob_is_not_deleted(store: BlobStore) -> None:
    sha256, _ = store.put(b"its row is on its way")
    assert not store.delete(sha256)
    make_old(store.path(sha256))
    assert store.put(b"its row is on its way")[0] == sha256, "storing it again makes it young"
    assert not store.delete(sha256)
    make_old(store.path(sha256))
    assert store.delete(sha256)
    assert store.delete(sha256), "gone is gone"
    assert files(store) == set()


def test_the_sweep_removes_what_nobody_names(store: BlobStore) -> None:
    known, unknown, young = (store.put(content)[0] for content in (b"known", b"unknown", b"young"))
    for sha256 in (known, unknown):
        make_old(store.path(sha256))
    left = store.incoming_folder / "left"
    left.write_bytes(b"half")
    assert store.sweep(lambda hashes: frozenset(hashes) & {known}) == 1
    assert files(store) == {store.path(known), store.path(young), left}
    make_old(left, ABANDONED_S + 1)
    assert store.sweep(lambda hashes: frozenset(hashes)) == 1
    assert files(store) == {store.path(known), store.path(young)}


def test_what_an_earlier_release_stored_is_found_kept_once_and_removed(store: BlobStore) -> None:
    """It made a folder below each of ours; a store of that time is used as it stands."""
    sha256 = hashlib.sha256(b"earlier").hexdigest()
    earlier = store.root / sha256[:2] / sha256[2:4] / sha256
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"earlier")
    assert store.intact(sha256) == earlier
    assert store.put(b"earlier")[0] == sha256
    assert files(store) == {earlier}
    make_old(earlier)
    assert store.sweep(lambda hashes: frozenset(hashes)) == 0
    assert store.sweep(lambda hashes: frozenset()) == 1
    assert files(store) == set()


def test_a_folder_that_somebody_removed_is_made_again(store: BlobStore) -> None:
    sha256, _ = store.put(b"x")
    store.path(sha256).unlink()
    store.path(sha256).parent.rmdir()
    assert store.put(b"x")[0] == sha256
    assert store.path(sha256).read_bytes() == b"x"


def test_a_short_write_is_continued(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:3])))
    sha256, size_bytes = store.put(b"ten bytes!")
    assert (sha256, size_bytes) == (hashlib.sha256(b"ten bytes!").hexdigest(), 10)
    assert store.path(sha256).read_bytes() == b"ten bytes!"


def test_others_on_the_machine_may_not_look(store: BlobStore) -> None:
    assert store.root.stat().st_mode & 0o077 == 0
