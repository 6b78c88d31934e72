"""A file is complete or absent: its content reaches the disk before its name, and its name before the answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from radir_pacs import durable


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order of the calls that matter in a power cut."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        seen.append(f"fsync {Path(f'/proc/self/fd/{handle}').readlink().suffix or 'folder'}")
        fsync(handle)

    def replaced(*arguments: object) -> None:
        seen.append("rename")
        replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    return seen


def test_a_file_is_replaced_in_order(tmp_path: Path, calls: list[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    durable.replace(folder / "kept", b"old")
    durable.replace(folder / "kept", b"new")
    assert (folder / "kept").read_bytes() == b"new"
    assert calls == ["fsync .partial", "rename", "fsync folder"] * 2


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    durable.replace(path, b"old")
    with pytest.raises(RuntimeError), durable.replacing(path) as partial:
        partial.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_of_several_makers_the_first_wins(tmp_path: Path) -> None:
    assert durable.create(tmp_path / "key", b"first", mode=0o600)
    assert not durable.create(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 1


def test_no_other_place_writes_files_so(tmp_path: Path) -> None:
    """Receiving blobs and creating the database call fsync themselves; everything else uses this module."""
    root = Path(__file__).parents[2]
    users = {
        str(path.relative_to(root))
        for folder in ("radir_pacs", "workers", "training")
        for path in (root / folder).rglob("*.py")
        if "os.fsync(" in path.read_text("utf-8")
    }
    assert users == {"radir_pacs/durable.py", "radir_pacs/storage/blobs.py"}
