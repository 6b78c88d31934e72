"""Studies from senders that we did not write: a real Orthanc, by C-STORE and by STOW-RS, and DCMTK's storescu."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.dicom_files import radiograph, save
from tests.integration.orthanc import Orthanc, running_orthanc
from tests.services import need
from tests.stack import Stack

Hospital = tuple[Path, list[dict[str, Any]]]
ROADS = ("orthanc by C-STORE", "orthanc by STOW", "storescu")


@pytest.fixture(scope="module")
def orthanc(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as started:
        started.put("/modalities/radir", {"AET": "RADIR", "Host": "127.0.0.1", "Port": stack.listener_port})
        started.put("/dicom-web/servers/radir", {"Url": f"{stack.web}/dicom-web/"})
        yield started


@pytest.fixture(scope="module")
def skull(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A radiograph that is not of a chest."""
    ds = radiograph(BodyPartExamined="SKULL", StudyDescription="Skull", ProtocolName="Skull", ViewPosition="")
    return save(ds, tmp_path_factory.mktemp("skull") / "skull.dcm")


def storescu(stack: Stack, files: list[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("storescu"), "-R", "-aec", "RADIR", "127.0.0.1", str(stack.listener_port), *map(str, files)],
        env=os.environ | {"TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def state_of(stack: Stack, study_uid: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{stack.web}/dicom-web/studies/{study_uid}/state", timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def send(road: str, stack: Stack, orthanc: Orthanc, files: list[Path]) -> None:
    """Send by one of ``ROADS``, which must report success."""
    if road == "storescu":
        done = storescu(stack, files)
        assert done.returncode == 0, done.stderr
        return
    studies = sorted({orthanc.store(file) for file in files})
    job = orthanc.send("radir", studies) if road == "orthanc by C-STORE" else orthanc.stow("radir", studies)
    assert job["State"] == "Success", job
    assert int(job["Content"]["InstancesCount"]) == len(files)


@pytest.fixture(scope="module")
def sent(stack: Stack, orthanc: Orthanc, hospital: Hospital, skull: Path) -> list[dict[str, Any]]:
    """Three CTs and all radiographs of the hospital, a third of each by each road, and a study that nobody encodes."""
    folder, known = hospital
    studies = [study for study in known if study["kind"] == "CT"][:3]
    studies += [study for study in known if study["kind"] == "CXR"]
    for number, road in enumerate(ROADS):
        send(road, stack, orthanc, [folder / file for study in studies[number::3] for file in study["files"]])
    send("orthanc by C-STORE", stack, orthanc, [skull])
    stack.wait_until_done(len(studies) + 1)
    return studies


def test_each_study_ends_with_all_its_instances(stack: Stack, sent: list[dict[str, Any]]) -> None:
    for study in sent:
        found = state_of(stack, study["study_uid"])
        assert (found["state"], found["instances"]) == ("INDEXED", len(study["files"])), study["kind"]
    status = stack.status()
    assert status["studies"] == {"INDEXED": len(sent), "SKIPPED": 1}
    assert status["refusals_last_day"] == 0


def test_what_is_not_encoded_says_why(stack: Stack, sent: list[dict[str, Any]]) -> None:
    with urllib.request.urlopen(f"{stack.web}/dicom-web/studies?ModalitiesInStudy=DX", timeout=30) as answer:
        uids = {row["0020000D"]["Value"][0] for row in json.load(answer)} - {study["study_uid"] for study in sent}
    (uid,) = uids
    found = state_of(stack, uid)
    assert found["state"] == "SKIPPED" and found["reason"]


def test_the_same_study_by_every_road_is_one(
    stack: Stack, orthanc: Orthanc, hospital: Hospital, sent: list[dict[str, Any]]
) -> None:
    """Each sender writes other meta information and lays out sequences its own way."""
    folder, _ = hospital
    before = stack.status()
    chosen = (sent[0], sent[-2], sent[-1])  # a CT and two radiographs
    for study in chosen:
        for road in ROADS:
            send(road, stack, orthanc, [folder / file for file in study["files"]])
    after = stack.status()
    assert after["studies"] == before["studies"]
    assert after["jobs"] == before["jobs"], "nothing was encoded or mined again"
    assert after["refusals_last_day"] == 0
    for study in chosen:
        assert state_of(stack, study["study_uid"])["instances"] == len(study["files"])


@pytest.mark.parametrize("which", [0, -1], ids=["CT", "CXR"])
def test_a_sender_is_told_of_other_pixels_under_the_same_uid(
    which: int, stack: Stack, sent: list[dict[str, Any]], hospital: Hospital, tmp_path: Path
) -> None:
    folder, _ = hospital
    before = stack.status()["refusals_last_day"]
    ds = pydicom.dcmread(folder / sent[which]["files"][0])
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(tmp_path / "changed.dcm")
    assert storescu(stack, [tmp_path / "changed.dcm"]).returncode == 0xC0  # the status C002, as far as it fits
    assert stack.status()["refusals_last_day"] == before + 1
    assert state_of(stack, sent[which]["study_uid"])["state"] == "INDEXED"


def test_orthanc_and_dcmtk_verify_the_connection(stack: Stack, orthanc: Orthanc) -> None:
    orthanc.post("/modalities/radir/echo", {})
    done = subprocess.run([need("echoscu"), "-aec", "RADIR", "127.0.0.1", str(stack.listener_port)], timeout=30)
    assert done.returncode == 0
