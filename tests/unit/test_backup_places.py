"""Where no backup is, the place that was looked at is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from radir_pacs.backup.places import BucketPlace, place_of
from radir_pacs.backup.repository import Repository
from radir_pacs.cli import main
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, NotFound


@pytest.mark.parametrize("command", [("restore",), ("backup", "--check"), ("backup", "--list")])
def test_the_folder_without_a_backup_is_named(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "backups", "--home", str(tmp_path / "home")]) == 1
    assert f"there is no backup in {tmp_path / 'backups'}" in capsys.readouterr().err


def test_a_backup_without_a_snapshot_and_a_folder_of_other_files_are_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    empty, other = tmp_path / "empty", tmp_path / "other"
    made = Repository.open(place_of(str(empty), settings), None, make=True)
    with pytest.raises(NotFound, match=f"the backup in {empty} has no whole snapshot"):
        made.manifest()
    other.mkdir()
    (other / "letter.txt").write_text("no backup")
    with pytest.raises(BadInput, match=f"in {other} are other files"):
        Repository.open(place_of(str(other), settings), None, make=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match=str(tmp_path / "file")):
        Repository.open(place_of(str(tmp_path / "file"), settings), None)


def test_a_bucket_is_named_by_its_url(tmp_path: Path) -> None:
    place = place_of("s3://radir/nightly", Settings(home=tmp_path))
    assert isinstance(place, BucketPlace) and str(place) == "s3://radir/nightly"
