"""An installation is backed up while it runs, and goes on from the backup on an empty machine, with the same answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, running_stack

Hospital = tuple[Path, list[dict[str, Any]]]
COMPARED = ("cases", "model", "exact", "region_asked")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("backed-up")
    with running_stack(folder / "home", backup_key=str(folder / "key")) as started:
        started.radir("backup", "--make-key", str(folder / "key"))
        yield started


def asked(stack: Stack, uids: list[str]) -> list[dict[str, Any]]:
    answers = [stack.json("similar", uid, "--region", "RLL", "--limit", "20") for uid in uids]
    return [{name: answer[name] for name in COMPARED} for answer in answers]


def test_it_goes_on_from_its_backup(stack: Stack, hospital: Hospital, tmp_path: Path) -> None:
    folder, studies = hospital
    uids = [study["study_uid"] for study in studies]
    half = len(studies) // 2
    stack.json("send", *(str(folder / file) for study in studies[:half] for file in study["files"]))
    stack.wait_until_done(half)
    target = tmp_path / "backup"
    first = stack.json("backup", str(target))
    assert first["copied"] == first["files"] > 0

    stack.json("send", *(str(folder / file) for study in studies[half:] for file in study["files"]))
    stack.wait_until_done(len(studies))
    stack.radir("tokens", "create", "reader", "--role", "radiologist")
    before = asked(stack, uids[:3])
    second = stack.json("backup", str(target))
    assert second["studies"] == len(studies)
    assert second["copied"] == second["files"] - first["files"], "what stands is not copied again"
    assert stack.json("backup", str(target), "--check")["whole"]
    assert [row["snapshot"] for row in stack.json("backup", str(target), "--list")] == [
        first["snapshot"],
        second["snapshot"],
    ]
    told = b"".join(path.read_bytes() for path in target.rglob("*") if path.is_file())
    assert b"DICM" not in told
    assert uids[0].encode() not in told, "nothing of a patient can be read without the key"

    home = tmp_path / "elsewhere"
    (home).mkdir()
    environment = stack.environment | {"RADIR_HOME": str(home)} | Stack.free_ports()
    other = Stack(
        home, int(environment["RADIR_LISTENER_PORT"]), int(environment["RADIR_WEB_PORT"]), stack.process, environment
    )
    restored = other.json("restore", str(target))
    assert (restored["damaged"], restored["audit_broken_at"]) == ([], None)
    assert restored["tables"]["study"] == len(studies)
    assert not (home / "index").exists(), "the index is made again"
    again = other.radir("restore", str(target), check=False)
    assert again.returncode == 1
    assert "is not empty" in again.stderr

    settings = {
        name.removeprefix("RADIR_").lower(): value
        for name, value in environment.items()
        if name.startswith("RADIR_") and name not in ("RADIR_HOME", "RADIR_LISTENER_PORT", "RADIR_WEB_PORT")
    }
    with running_stack(home, **settings) as started:
        started.wait_until_done(len(studies))
        assert asked(started, uids[:3]) == before
        assert [token["name"] for token in started.json("tokens", "list")] == ["reader"]
        assert started.json("audit", "verify")["broken_at"] is None
        models = {row["model_id"]: row["state"] for row in started.json("models", "list")}
        assert models == {row["model_id"]: row["state"] for row in stack.json("models", "list")}
    damaged(stack, target)


def damaged(stack: Stack, target: Path) -> None:
    """What is damaged or missing is named, and nothing else."""
    objects = sorted((path for path in target.glob("objects/*/*")), key=lambda path: path.stat().st_size)
    objects[0].unlink()
    with objects[-1].open("r+b") as file:
        file.seek(100)
        file.write(b"\0\1\2\3")
    found = stack.radir("backup", str(target), "--check", "--json", check=False)
    assert found.returncode == 1
    told = json.loads(found.stdout)
    assert (len(told["missing"]), len(told["damaged"]), told["tables"]) == (1, 1, {})
    assert stack.json("backup", str(target), "--keep", "1")["snapshots_removed"] == 2
    shutil.rmtree(target)
