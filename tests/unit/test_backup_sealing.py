"""What encrypts a backup: content comes back, and nothing that was altered is ever taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from radir_pacs.backup.sealing import CHUNK_BYTES, Sealing, make_key, read_key
from radir_pacs.errors import BackupDamaged, SettingError

KEY, OTHER = bytes(32), bytes([1]) * 32


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("key", [KEY, None])
def test_content_comes_back_and_its_size_is_foretold(size: int, key: bytes | None) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    sealing = Sealing(key)
    object_ = b"".join(sealing.sealed("a", [content[: size // 3], content[size // 3 : size]]))
    assert len(object_) == sealing.size_bytes(size)
    assert b"".join(sealing.opened("a", [object_[:7], object_[7:]])) == content[:size]
    assert key is None or content[:size] not in object_ or size < 2


def test_what_was_altered_is_refused() -> None:
    content = bytes(2 * CHUNK_BYTES + 5)
    sealing = Sealing(KEY)
    object_ = b"".join(sealing.sealed("a", [content]))
    head, chunk = 24, CHUNK_BYTES + 16
    first, second = object_[head : head + chunk], object_[head + chunk : head + 2 * chunk]
    flipped = bytearray(object_)
    flipped[len(object_) // 2] ^= 1
    for altered in (
        bytes(flipped),
        object_[:-1],
        object_[: head + 2 * chunk],  # without its last chunk
        object_[:head] + second + first + object_[head + 2 * chunk :],
        object_ + b"x",
        object_[:10],
        b"",
    ):
        with pytest.raises(BackupDamaged):
            b"".join(sealing.opened("a", [altered]))
    with pytest.raises(BackupDamaged):
        b"".join(sealing.opened("b", [object_]))  # in the place of another object
    with pytest.raises(BackupDamaged):
        b"".join(Sealing(OTHER).opened("a", [object_]))


def test_names_tell_nothing_to_who_has_not_the_key() -> None:
    sha256 = "ab" * 32
    assert Sealing(None).name(sha256) == sha256
    assert len({Sealing(KEY).name(sha256), Sealing(OTHER).name(sha256), sha256}) == 3


def test_a_key_file_is_made_once_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert make_key(path)
    assert not make_key(path), "another key would make earlier backups unreadable"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_key(path)) == 32
    path.write_text("short")
    for bad in (path, tmp_path / "none"):
        with pytest.raises(SettingError):
            read_key(bad)
