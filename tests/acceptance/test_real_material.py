"""The whole chain on data that we did not make: open X-ray collections, all files of open DICOM collections."""

from __future__ import annotations

import csv
import json
import urllib.request
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.services import data_dir
from tests.stack import ENDED, Stack, running_stack

PATIENTS = 8
COLLECTIONS = {"cxr_cohen": "metadata.csv", "cxr_hannover": "data.csv"}


def part_of(collection: str, patients: int, into: Path) -> Path:
    """The table's rows of its first ``patients``."""
    patient = {"cxr_cohen": "patientid", "cxr_hannover": "patient_id"}[collection]
    with (data_dir(collection) / COLLECTIONS[collection]).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    first = list(dict.fromkeys(row[patient] for row in rows))[:patients]
    table = into / f"{collection}.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, reader.fieldnames or [])
        writer.writeheader()
        writer.writerows(row for row in rows if row[patient] in first)
    return table


Tally = dict[str, Any]


def fetched(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def studies_of(stack: Stack, matching: str = "") -> list[str]:
    """The UIDs of all studies that QIDO finds."""
    rows = fetched(f"{stack.web}/dicom-web/studies?limit=200&{matching}")
    return [row["0020000D"]["Value"][0] for row in rows]


def state_of(stack: Stack, study_uid: str) -> dict[str, Any]:
    found: dict[str, Any] = fetched(f"{stack.web}/dicom-web/studies/{study_uid}/state")
    return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(stack, what `radir send` said) after every file of the DICOM collections was sent."""
    folder = data_dir("dicom")
    with running_stack(tmp_path_factory.mktemp("everything")) as stack:
        said = json.loads(stack.radir("send", str(folder), "--json", check=False).stdout)
        stack.wait(lambda s: not s["queue"] and set(s["studies"]) <= ENDED)
        yield stack, said


def test_every_file_ends_stored_or_refused_with_a_reason(everything: tuple[Stack, Tally]) -> None:
    _, said = everything
    files = [path for path in data_dir("dicom").rglob("*") if path.is_file()]
    refused, left_out = said["refused"], said["left_out"]
    assert all(entry["reason"] for entry in (*refused, *left_out))
    print(f"{len(files)} files: {said['sent']} stored, {len(refused)} refused, {len(left_out)} left out")
    assert said["sent"] + len(refused) + len(left_out) == len(files)
    assert said["sent"] >= 0.6 * len(files)


def test_no_process_died_of_them(everything: tuple[Stack, Tally]) -> None:
    stack, _ = everything
    status = stack.status()
    states = {p["name"].partition("@")[0]: (p["state"], p["restarts"]) for p in status["processes"]}  # less its machine
    assert states == dict.fromkeys(("listener", "relay", "web", "worker", "indexer", "transfer"), ("UP", 0))
    assert status["jobs"].keys() == {"DONE"}


def test_every_study_ends_with_a_reason_where_it_is_not_indexed(everything: tuple[Stack, Tally]) -> None:
    stack, _ = everything
    uids = studies_of(stack)
    assert len(uids) == sum(stack.status()["studies"].values())
    states = [state_of(stack, uid) for uid in uids]
    assert all(found["reason"] for found in states if found["state"] != "INDEXED")
    assert sum(found["state"] == "INDEXED" for found in states) >= 3


def test_a_real_chest_ct_is_answered(everything: tuple[Stack, Tally], fewer_cts: Any, tmp_path: Path) -> None:
    """The collections hold one chest CT with enough slices; those like it come from the synthetic hospital."""
    stack, _ = everything
    (query,) = [uid for uid in studies_of(stack, "ModalitiesInStudy=CT") if state_of(stack, uid)["state"] == "INDEXED"]
    folder, studies = fewer_cts
    before = sum(stack.status()["studies"].values())
    cts = [study for study in studies if study["kind"] == "CT"]
    for number, study in enumerate(cts):
        (tmp_path / str(number)).mkdir()
        for file in study["files"]:
            (tmp_path / str(number) / Path(file).name).symlink_to(folder / file)
    stack.json("send", str(tmp_path))
    stack.wait(
        lambda s: not s["queue"] and set(s["studies"]) <= ENDED and sum(s["studies"].values()) == before + len(cts)
    )
    cases = stack.json("similar", query, "--region", "lungs", "--limit", "50")["cases"]
    assert {study["study_uid"] for study in cts} <= {case["study"] for case in cases}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_pictures_with_a_table_become_answers(everything: tuple[Stack, Tally], collection: str, tmp_path: Path) -> None:
    """Beside what was sent before."""
    stack, _ = everything
    images = data_dir(collection) / "images"
    table = part_of(collection, PATIENTS, tmp_path)
    made = stack.radir(
        "import-images", str(table), "--images", str(images), "--out", str(tmp_path / "out"), "--json", check=False
    )
    outcome = json.loads(made.stdout)
    assert outcome["studies"] >= PATIENTS / 2 and not outcome["refused"]
    before = stack.status()["studies"]
    sent = stack.json("send", str(tmp_path / "out"))
    assert (sent["sent"], sent["refused"]) == (outcome["images"] + outcome["reports"], [])
    after = stack.wait_until_done(sum(before.values()) + outcome["studies"])
    assert after["studies"]["INDEXED"] - before.get("INDEXED", 0) == outcome["studies"]
    patients = {}
    for path in sorted((tmp_path / "out").rglob("*.dcm")):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        patients[str(ds.StudyInstanceUID)] = str(ds.PatientID)
    query = next(iter(patients))
    found = {case["study"] for case in stack.json("similar", query, "--region", "lungs", "--limit", "50")["cases"]}
    assert found & set(patients)
    assert patients[query] not in {patients.get(study) for study in found}
