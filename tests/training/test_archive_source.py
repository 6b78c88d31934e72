"""`radir dataset build --source archive`: a real catalogue's reported studies, patients under pseudonyms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, StudyState
from radir_training.data.retrieval_set import RetrievalSet
from radir_training.datasets import sources
from radir_training.datasets.archive import KEY_FILE, Archive, pseudonym_key
from tests.catalogue_material import add, header, receive

KEY = bytes(32)
SECRET = "HOSPITAL-SECRET-ID"


def reported(catalogue: Catalogue, study: int, text: str, **changes: Any) -> None:
    """A complete study with a report that came as CSV."""
    add(catalogue, header(study, **changes))
    catalogue.studies.complete_now(f"2.25.{study}")
    receive(catalogue, f"2.25.{study}", text)


@pytest.fixture
def hospital(catalogue: Catalogue) -> Catalogue:
    """Patients with two studies each, and studies that do not belong in a data set."""
    texts = ("Small left pleural effusion.", "No pleural effusion.", "Large left pleural effusion. No pneumothorax.")
    for study in range(1, 61):
        name = f"{SECRET}-{study // 2}"
        reported(catalogue, study, texts[study % 3], patient_key=f"ISSUER|{name}", patient_id=name, patient_name=name)
    reported(catalogue, 100, "Nodule.", modality="CT")
    reported(catalogue, 101, "Knee.", modality="MR")
    reported(catalogue, 102, "Set aside.")
    catalogue.studies.set_state("2.25.102", StudyState.SKIPPED, "not a chest")
    add(catalogue, header(103))
    receive(catalogue, "2.25.103", "Images still come.")
    add(catalogue, header(104))
    catalogue.studies.complete_now("2.25.104")
    return catalogue


def test_it_gives_each_complete_reported_study_once_with_its_newest_text(hospital: Catalogue) -> None:
    hospital.reports.add("2.25.1", body="Addendum.", source="sr", sop_uid="2.25.1.99.1")
    archive = Archive(hospital, KEY)
    cases = {case.path: case for case in sources.archive(archive)}
    assert set(cases) == {f"2.25.{study}" for study in (*range(1, 61), 100)}
    assert archive.left_out == 1
    assert cases["2.25.1"].text == "Addendum." and cases["2.25.100"].kind is ImageKind.CT
    assert {case.kind for case in cases.values() if case.path != "2.25.100"} == {ImageKind.CXR}
    for page in (1, 7, 61, 62):
        assert [study.study_uid for study in hospital.reports.reported_studies(page)] == sorted([*cases, "2.25.101"])


def test_patients_stand_under_pseudonyms_that_their_key_makes(catalogue: Catalogue) -> None:
    for study in (1, 2, 3, 4):
        reported(catalogue, study, "Clear.", patient_key="|p" if study < 3 else "")
    one, two, nobody, stranger = (case.patient for case in sources.archive(Archive(catalogue, KEY)))
    assert one == two and len({one, nobody, stranger}) == 3
    assert one not in {case.patient for case in sources.archive(Archive(catalogue, b"\x01" * 32))}


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    key = pseudonym_key(tmp_path)
    path = tmp_path / KEY_FILE
    assert len(key) == 32 and key == pseudonym_key(tmp_path) and key != pseudonym_key(tmp_path / "other")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == [KEY_FILE]
    path.write_bytes(b"short")
    with pytest.raises(BadInput, match="not a key"):
        pseudonym_key(tmp_path)


def test_the_command_builds_from_the_installation_and_names_no_patient(
    hospital: Catalogue,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    order = ["dataset", "build", "--source", "archive", "--least-images", "2", "--json", "--out"]
    captions = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert main([*order, str(folder)]) == 0
        said = json.loads(capsys.readouterr().out)
        assert sum(said["images"].values()) == 61 and said["left_out"] == 1
        captions.append((folder / "train.jsonl").read_text())
    assert captions[0] == captions[1], "a patient keeps its split"
    written = b"".join(path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert b"2.25.60" in written and SECRET.encode() not in written
    split_of_study = {
        path: split for split in said["images"] for path in RetrievalSet(folder=tmp_path / "one", split=split).paths()
    }
    for study in range(2, 60, 2):
        assert split_of_study[f"2.25.{study}"] == split_of_study[f"2.25.{study + 1}"]
    shown = ["dataset", "show", "--root", str(tmp_path / "one"), "--split", "train", "--region", "pleura"]
    assert main([*shown, "--pair", "0", "1"]) == 0
    assert "relevance under pleura" in capsys.readouterr().out


def test_an_archive_without_reports_is_said(
    catalogue: Catalogue,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert main(["dataset", "build", "--source", "archive", "--out", str(tmp_path / "set")]) == 1
    assert capsys.readouterr().err == "error: the source has no report\n"
