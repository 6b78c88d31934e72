"""The synthetic hospital on disk, read by independent readers: pydicom, dciodvfy and our own anatomy."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from radir_pacs import anatomy
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput
from radir_training.commands.phantom import register

from ..services import need


def radir(*words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    args = parser.parse_args(["phantom", *words])
    return int(args.run(args, None))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hospital")
    assert radir("--out", str(out), "--patients", "3", "--seed", "21", "--size", "tiny") == 0
    return out


def truth(hospital: Path) -> list[dict]:  # type: ignore[type-arg]
    return list(json.loads((hospital / "truth.json").read_text())["studies"])


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_however_many_processes(
    hospital: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    radir("--out", str(tmp_path), "--patients", "3", "--seed", "21", "--size", "tiny", "--jobs", "2", "--json")
    assert digests(tmp_path) == digests(hospital)
    told = capfd.readouterr()
    assert json.loads(told.out)["patients"] == 3
    assert told.err.splitlines() == [f"{done} of 3 patients" for done in (1, 2, 3)], "whoever waits sees it go on"


def test_dciodvfy_finds_no_error(hospital: Path) -> None:
    program = need("dciodvfy")
    seen: set[tuple[str, str]] = set()
    for path in sorted(hospital.rglob("*.dcm")):
        # Slices of one series differ in place and pixels only; first and last of each series speak for all.
        if path.name.startswith("ct_") and (path.parent.name, path.name[3:6]) in seen:
            continue
        seen.add((path.parent.name, path.name[3:6]))
        told = subprocess.run([program, str(path)], capture_output=True, text=True, timeout=60, check=False)
        wrong = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith(("Error", "Warning"))]
        assert not wrong, (path.name, wrong)


def test_the_truth_names_every_file_and_real_regions(hospital: Path) -> None:
    studies = truth(hospital)
    files = sorted(path.relative_to(hospital).as_posix() for path in hospital.rglob("*.dcm"))
    assert sorted(name for study in studies for name in study["files"]) == files
    assert {study["kind"] for study in studies} == {"CXR", "CT"}
    for study in studies:
        for finding in study["findings"]:
            assert anatomy.region(finding["region"]).key == finding["region"]
            assert finding["severity"] in (1, 2, 3)
        for key in study["boxes"]:
            assert anatomy.region(key).key == key
        for name in study["files"]:
            ds = pydicom.dcmread(hospital / name, stop_before_pixels=True)
            assert ds.StudyInstanceUID == study["study_uid"] and ds.PatientID == study["patient_id"]
            assert ds.StudyDate == study["date"].replace("-", "")


def test_uids_are_valid_and_used_once(hospital: Path) -> None:
    uids = [
        str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in hospital.rglob("*.dcm")
    ]
    assert len(set(uids)) == len(uids)
    assert all(is_valid_uid(uid) and uid.startswith("2.25.") for uid in uids)


def test_a_ct_series_is_one_block_of_hounsfield_units(hospital: Path) -> None:
    study = next(study for study in truth(hospital) if study["kind"] == "CT")
    slices = [pydicom.dcmread(hospital / name) for name in study["files"] if "ct_" in name]
    assert len({ds.SeriesInstanceUID for ds in slices}) == len({ds.FrameOfReferenceUID for ds in slices}) == 1
    z = np.array([float(ds.ImagePositionPatient[2]) for ds in slices])
    assert np.allclose(np.diff(z), float(slices[0].SliceThickness), atol=1e-3)
    volume = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices])
    assert volume[:, :2, :2].mean() == pytest.approx(-1000, abs=15)
    assert 0.05 < np.mean((volume > -950) & (volume < -650)) < 0.5  # lung
    assert list(slices[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]


def test_radiographs_say_which_way_round_they_are(hospital: Path) -> None:
    study = next(study for study in truth(hospital) if study["kind"] == "CXR")
    frontal, lateral = (pydicom.dcmread(hospital / study["files"][i]) for i in (0, 1))
    assert (frontal.ViewPosition, list(frontal.PatientOrientation)) == ("PA", ["L", "F"])
    assert (lateral.ViewPosition, list(lateral.PatientOrientation)) == ("LL", ["P", "F"])
    assert frontal.PhotometricInterpretation == "MONOCHROME2"
    assert frontal.pixel_array.max() > 3500 and frontal.pixel_array.min() < 300


def test_reports_are_in_the_study_they_describe(hospital: Path) -> None:
    for study in truth(hospital):
        ds = pydicom.dcmread(hospital / study["files"][-1])
        assert ds.SOPClassUID.name == "Basic Text SR Storage"
        evidence = ds.CurrentRequestedProcedureEvidenceSequence[0]
        assert evidence.StudyInstanceUID == study["study_uid"]
        named = {
            item.ReferencedSOPInstanceUID for s in evidence.ReferencedSeriesSequence for item in s.ReferencedSOPSequence
        }
        images = {str(pydicom.dcmread(hospital / name).SOPInstanceUID) for name in study["files"][:-1]}
        assert named == images
        headings = [
            item.ConceptNameCodeSequence[0].CodeMeaning for item in ds.ContentSequence if item.ValueType == "CONTAINER"
        ]
        assert "Findings" in headings and "Impressions" in headings


def test_the_reports_stand_beside_the_truth_as_a_table(hospital: Path) -> None:
    with (hospital / "reports.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("study_uid", "patient_id", "kind", "report")
    assert rows == [{column: study[column] for column in columns} for study in truth(hospital)]
    for study in truth(hospital):
        said = [str(item.TextValue) for item in _texts(pydicom.dcmread(hospital / study["files"][-1]))]
        assert said and all(text in study["report"] for text in said)


def _texts(item: pydicom.Dataset) -> list[pydicom.Dataset]:
    below = [text for child in item.get("ContentSequence", []) for text in _texts(child)]
    return [item, *below] if item.ValueType == "TEXT" else below


def test_a_folder_holds_one_hospital(hospital: Path, tmp_path: Path) -> None:
    order = ("--patients", "1", "--seed", "21", "--size", "tiny", "--kinds", "cxr", "--out")
    before = digests(hospital)
    with pytest.raises(BadInput, match="another request"):
        radir(*order, str(hospital))
    assert digests(hospital) == before
    out = tmp_path / "interrupted"
    assert radir(*order, str(out)) == 0
    done = digests(out)
    (out / "truth.json").unlink()
    assert radir(*order, str(out)) == 0
    assert digests(out) == done
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds other files: choose an empty folder"):
        radir(*order, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["interrupted", "notes.txt"]


def test_the_summary_and_the_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    words = ("--out", str(out), "--patients", "1", "--size", "tiny", "--kinds", "cxr", "--sheet", str(sheet), "--json")
    assert radir(*words) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["patients"] == 1 and summary["files"] == len(list(out.rglob("*.dcm")))
    assert not list(out.rglob("ct_*.dcm"))
    assert Image.open(sheet).width > 1000


def test_an_order_that_cannot_be_filled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere to write"):
        radir("--patients", "1")
    with pytest.raises(BadInput, match="negative"):
        radir("--out", str(tmp_path), "--seed", "-1")
    with pytest.raises(SystemExit):
        radir("--out", str(tmp_path), "--kinds", "mri")
