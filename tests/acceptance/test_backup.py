"""An installation is backed up while it runs, and goes on from there on an empty machine, with the same answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.dicom_files import radiograph, save
from tests.s3_server import s3_server
from tests.stack import Stack, running_alone, running_stack

Hospital = tuple[Path, list[dict[str, Any]]]
COMPARED = ("cases", "model", "exact", "region_asked")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with running_stack(tmp_path / "home", backup_key=str(tmp_path / "key")) as started:
        started.radir("backup", "--make-key", str(tmp_path / "key"))
        yield started


def asked(stack: Stack, uids: list[str]) -> list[dict[str, Any]]:
    answers = [stack.json("similar", uid, "--region", "RLL", "--limit", "20") for uid in uids]
    return [{name: answer[name] for name in COMPARED} for answer in answers]


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """Settings that keep DICOM files in a bucket of an S3 server."""
    with s3_server() as endpoint:
        yield {
            "RADIR_BLOB_STORE": "s3://radir/blobs",
            "RADIR_S3_ENDPOINT": endpoint,
            "RADIR_S3_ACCESS_KEY_ID": "test",
            "RADIR_S3_SECRET_ACCESS_KEY": "test",
        }


@pytest.mark.timeout(900)
def test_it_goes_on_from_its_backup(stack: Stack, fewer_cts: Hospital, bucket: dict[str, str], tmp_path: Path) -> None:
    """The other machine keeps its files in a bucket, so that all that reads or stores one goes there."""
    folder, studies = fewer_cts
    uids = [study["study_uid"] for study in studies]
    half = len(studies) // 2
    stack.json("send", *(str(folder / file) for study in studies[:half] for file in study["files"]))
    stack.wait_until_done(half)
    target = tmp_path / "backup"
    first = stack.json("backup", str(target))
    assert first["copied"] == first["files"] > 0

    stack.json("send", *(str(folder / file) for study in studies[half:] for file in study["files"]))
    stack.wait_until_done(len(studies))
    token = stack.json("tokens", "create", "reader", "--role", "radiologist")["token"]
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
    home.mkdir()
    environment = alone(stack.environment) | {"RADIR_HOME": str(home)} | Stack.free_ports() | bucket
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
    with running_alone(home, **settings) as started:
        started.wait_until_done(len(studies))
        assert asked(started, uids[:3]) == before
        for path in (home / "blobs").glob("[0-9a-f][0-9a-f]/*"):
            path.unlink()  # as the sweep does with what nobody used lately
        for picture in ("thumbnail", "metadata"):
            url = f"{started.web}/dicom-web/studies/{uids[0]}/{picture}"
            answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
            assert answer.status_code == 200, answer.text
        late = tmp_path / "late.dcm"
        save(radiograph(), late)
        assert started.json("send", str(late))["refused"] == []
        started.wait_until_done(len(studies) + 1)
        assert [token["name"] for token in started.json("tokens", "list")] == ["reader"]
        assert started.json("audit", "verify")["broken_at"] is None
        models = {row["model_id"]: row["state"] for row in started.json("models", "list")}
        assert models == {row["model_id"]: row["state"] for row in stack.json("models", "list")}
    damaged(stack, target)


def alone(environment: dict[str, str]) -> dict[str, str]:
    """Without the database and the broker that three machines share: one machine has its own."""
    shared = ("RADIR_DATABASE_URL", "RADIR_BROKER_URL")
    return {name: value for name, value in environment.items() if name not in shared}


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
