"""Images that came to be shown: few, for an hour, gone when what they stand for is erased."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from radir_pacs.storage.fetched import KEPT_S, Fetched

MIB = 1 << 20
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def put(fetched: Fetched, sha256: str, size: int = 10, age_s: float = 0.0) -> Path:
    with fetched.coming() as path:
        path.write_bytes(bytes(size))
        kept = fetched.keep(path, sha256)
    then = time.time() - age_s
    os.utime(kept, (then, then))
    return kept


def test_what_came_is_there_until_it_is_dropped(tmp_path: Path) -> None:
    fetched = Fetched(tmp_path, 1000)
    path = put(fetched, A)
    assert fetched.get(A) == path and path.stat().st_size == 10
    assert path.parent.stat().st_mode & 0o077 == 0, "patients' images"
    assert (fetched.get(B), fetched.count([A, B])) == (None, 1)
    assert fetched.drop([A, B]) == 1
    assert (fetched.get(A), fetched.count([A, B])) == (None, 0)


def test_what_is_an_hour_old_is_shown_no_more_and_goes(tmp_path: Path) -> None:
    fetched = Fetched(tmp_path, 1000)
    path = put(fetched, A, age_s=KEPT_S + 1)
    assert fetched.get(A) is None
    fetched.trim()
    assert not path.exists()


def test_the_oldest_go_when_there_are_too_many_but_not_the_one_that_came(tmp_path: Path) -> None:
    fetched = Fetched(tmp_path, 25)
    old, young = put(fetched, A, age_s=20), put(fetched, B, age_s=10)
    last = put(fetched, C)
    assert [path.exists() for path in (old, young, last)] == [False, True, True]
    larger = Fetched(tmp_path, 5)
    assert put(larger, A).exists(), "it is about to be read"
    assert fetched.count([A, B, C]) == 1


def test_what_is_lent_is_read_to_its_end_whatever_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = Fetched(tmp_path, 1000)
    path = put(fetched, A)
    first, second = fetched.lend(path), fetched.lend(path)
    assert first is not None and second is not None and first != second
    fetched.drop([A])
    fetched.trim()
    assert first.read_bytes() == second.read_bytes() == bytes(10) and fetched.count([A]) == 0
    fetched.give_back(first)
    assert list(fetched.folder.iterdir()) == [second]
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 700)
    fetched.trim()
    assert list(fetched.folder.iterdir()) == [], "nobody gave it back"
    assert fetched.lend(path) is None


def test_what_came_half_is_left_nowhere(tmp_path: Path) -> None:
    fetched = Fetched(tmp_path, 1000)
    with pytest.raises(ZeroDivisionError), fetched.coming() as path:
        path.write_bytes(b"half")
        _ = 1 / 0
    assert list(fetched.folder.iterdir()) == []
    killed = fetched.folder / "0123.coming"
    killed.write_bytes(b"half")
    fetched.trim()
    assert killed.exists(), "it may still be coming"
    os.utime(killed, (0, 0))
    fetched.trim()
    assert not killed.exists()


def test_a_name_is_a_hash(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        Fetched(tmp_path, 1000).get("../../etc/passwd")


def test_there_is_no_room_where_the_disk_is_to_be_kept_free_for_what_is_to_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    fetched = Fetched(tmp_path, 1000, kept_free_bytes=512 * MIB)
    for free, has_room in ((511 * MIB, False), (513 * MIB, False), (600 * MIB, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda of, free=free: usage._replace(free=free))
        assert fetched.has_room() is has_room


def test_what_is_coming_counts_and_what_is_kept_makes_room_for_it(tmp_path: Path) -> None:
    fetched = Fetched(tmp_path, 100)
    old, young = put(fetched, A, size=40, age_s=20), put(fetched, B, size=40)
    with fetched.coming() as first:
        first.write_bytes(bytes(60))
        assert fetched.has_room()
        assert [path.exists() for path in (old, young, first)] == [False, True, True]
        with fetched.coming() as second:
            second.write_bytes(bytes(60))
            assert not fetched.has_room(), "together they are more than may be here"
            assert not young.exists()
    assert fetched.has_room()
