"""The main job, from C-STORE to a structured report, by the commands that people type."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pydicom
import pytest

from radir_pacs.delivery.check.template import violations
from tests.dicom_files import radiograph, save
from tests.services import need
from tests.stack import Stack

Hospital = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def indexed(stack: Stack, hospital: Hospital) -> list[dict[str, Any]]:
    """The hospital's studies, sent and indexed."""
    folder, studies = hospital
    sent = stack.json("send", str(folder))
    assert sent["refused"] == []
    assert sent["sent"] == sum(len(study["files"]) for study in studies)
    done = stack.wait_until_done(len(studies))
    assert done["studies"] == {"INDEXED": len(studies)}
    return studies


def of_kind(studies: list[dict[str, Any]], kind: str) -> list[str]:
    return [study["study_uid"] for study in studies if study["kind"] == kind]


@pytest.mark.parametrize("kind", ["CXR", "CT"])
def test_similar_cases_are_of_other_patients_and_ranked(stack: Stack, indexed: list[dict[str, Any]], kind: str) -> None:
    patient = {study["study_uid"]: study["patient_id"] for study in indexed}
    query = of_kind(indexed, kind)[0]
    answer = stack.json("similar", query, "--region", "RLL", "--limit", "20")
    cases = answer["cases"]
    assert answer["model"].startswith(kind.lower())
    assert answer["exact"] and answer["region_asked"] == "right_lower_lobe"
    assert {case["study"] for case in cases} == {
        uid for uid in of_kind(indexed, kind) if patient[uid] != patient[query]
    }
    assert [case["rank"] for case in cases] == list(range(1, len(cases) + 1))
    assert [case["score"] for case in cases] == sorted((case["score"] for case in cases), reverse=True)


def test_the_patients_own_studies_come_when_asked_for(stack: Stack, indexed: list[dict[str, Any]]) -> None:
    query = of_kind(indexed, "CXR")[0]
    answer = stack.json("similar", query, "--region", "lungs", "--limit", "50", "--same-patient")
    assert {case["study"] for case in answer["cases"]} == set(of_kind(indexed, "CXR")) - {query}


def test_reports_explain_the_cases(stack: Stack, indexed: list[dict[str, Any]]) -> None:
    answers = [stack.json("similar", uid, "--limit", "20") for uid in of_kind(indexed, "CXR")[:4]]
    assert any(case["shared"] or case["contradicting"] for answer in answers for case in answer["cases"])


def test_reports_from_a_table_explain_too_until_they_are_corrected(
    stack: Stack, indexed: list[dict[str, Any]], hospital: Hospital, tmp_path: Path
) -> None:
    """No report of the synthetic hospital mentions a hernia, so what is said of one came from the table."""
    folder, _ = hospital
    query, other = of_kind(indexed, "CXR")[0], stack.json("similar", of_kind(indexed, "CXR")[0])["cases"][0]["study"]
    files = {study["study_uid"]: study["files"][0] for study in indexed}
    numbers = {uid: pydicom.dcmread(folder / files[uid]).AccessionNumber for uid in (query, other)}
    table = tmp_path / "reports.csv"

    def take(*rows: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        table.write_text("accession,report\n" + "".join(f'{number},"{text}"\n' for number, text in rows))
        done = stack.radir("reports", str(table), "--accession", "accession", "--text", "report", check=False)
        stack.wait(lambda status: not status["queue"])
        return done

    def said_of_hernias() -> tuple[list[str], list[str]]:
        [case] = [case for case in stack.json("similar", query, "--limit", "20")["cases"] if case["study"] == other]
        shared, contradicting = ([note for note in case[s] if "hernia" in note] for s in ("shared", "contradicting"))
        return shared, contradicting

    assert said_of_hernias() == ([], [])
    done = take((numbers[query], "Large hiatal hernia."), ("nobody's", "Clear."), (numbers[other], "Hiatal hernia."))
    assert done.stdout.strip() == "2 new, 0 replaced, 0 there already, 1 waiting for their study, 0 left out"
    assert done.returncode == 0
    assert said_of_hernias() == (["hiatal hernia"], [])
    assert take((numbers[query], "No hiatal hernia.")).stdout.startswith("0 new, 1 replaced")
    assert said_of_hernias() == ([], ["hiatal hernia"])


@pytest.mark.parametrize("kind", ["CXR", "CT"])
def test_the_structured_report_is_valid(stack: Stack, indexed: list[dict[str, Any]], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    query = of_kind(indexed, kind)[0]
    stack.radir("similar", query, "--region", "right lower lobe", "--sr", str(path))
    ds = pydicom.dcmread(path)
    assert ds.StudyInstanceUID == query
    assert violations(ds) == []
    said = subprocess.run([need("dciodvfy"), str(path)], capture_output=True, text=True, timeout=60).stderr
    assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_dicomweb_answers_the_same(stack: Stack, indexed: list[dict[str, Any]]) -> None:
    query = of_kind(indexed, "CXR")[0]
    url = f"{stack.web}/dicom-web/studies/{query}/similar?anatomy=right%20lower%20lobe&limit=3"
    with urllib.request.urlopen(url, timeout=30) as answer:
        rows = json.load(answer)
        assert "299" in answer.headers["Warning"]
    expected = stack.json("similar", query, "--region", "right lower lobe", "--limit", "3")
    assert [row["0020000D"]["Value"][0] for row in rows] == [case["study"] for case in expected["cases"]]


def test_a_finding_typed_beside_the_region_is_named_in_a_note(stack: Stack, indexed: list[dict[str, Any]]) -> None:
    answer = stack.json("similar", of_kind(indexed, "CXR")[0], "--region", "RLL consolidation")
    assert answer["region_asked"] == "right_lower_lobe"
    assert any("'consolidation' was read as a finding" in warning for warning in answer["warnings"])


def test_unknown_region_names_the_nearest(stack: Stack, indexed: list[dict[str, Any]]) -> None:
    done = stack.radir("similar", of_kind(indexed, "CXR")[0], "--region", "left lowr lobe", check=False)
    assert done.returncode == 1
    assert "left lower lobe" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_status_shows_every_process(stack: Stack, indexed: list[dict[str, Any]]) -> None:
    status = json.loads(stack.radir("status", "--json").stdout)
    assert {p["name"].partition("@")[0]: p["state"] for p in status["processes"]} == dict.fromkeys(  # less its machine
        ("listener", "web", "relay", "worker", "indexer", "transfer"), "UP"
    )
    assert status["oldest_job_age_s"] is None


def test_nothing_of_a_patient_is_in_the_logs(stack: Stack, indexed: list[dict[str, Any]], hospital: Hospital) -> None:
    folder, studies = hospital
    ds = pydicom.dcmread(folder / studies[0]["files"][0], stop_before_pixels=True)
    logs = b"".join(path.read_bytes() for path in (stack.home / "logs").iterdir())
    assert logs
    for secret in (ds.PatientID, str(ds.PatientName), str(ds.PatientBirthDate)):
        assert secret and secret.encode() not in logs


def test_a_deleted_study_is_gone_from_the_next_answer(stack: Stack, indexed: list[dict[str, Any]]) -> None:
    query, *_ = of_kind(indexed, "CXR")
    before = [case["study"] for case in stack.json("similar", query, "--limit", "50")["cases"]]
    stack.radir("delete", before[0])
    after = [case["study"] for case in stack.json("similar", query, "--limit", "50")["cases"]]
    assert after == before[1:]
    url = f"{stack.web}/dicom-web/studies/{before[0]}/metadata"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=30)
    assert caught.value.code == 404


def test_a_second_stack_in_the_same_home_is_refused(stack: Stack) -> None:
    done = stack.radir("up", check=False)
    assert done.returncode == 1
    assert "is already running" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_said_in_one_line(stack: Stack, tmp_path: Path) -> None:
    done = stack.radir("up", "--home", str(tmp_path / "other"), check=False)
    assert done.returncode == 1
    assert "listener_port" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_problems_names_what_was_not_encoded_and_why(
    stack: Stack, indexed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A study that is no chest image, and an instance whose content changed under its UID."""
    knee = radiograph(BodyPartExamined="KNEE", StudyDescription="Knee")
    changed = radiograph(
        StudyInstanceUID=knee.StudyInstanceUID,
        SeriesInstanceUID=knee.SeriesInstanceUID,
        SOPInstanceUID=knee.SOPInstanceUID,
        PixelData=bytes(32 * 32 * 2),
    )
    for number, ds in enumerate((knee, changed)):
        stack.radir("send", str(save(ds, tmp_path / f"{number}.dcm")), check=False)
    stack.wait(lambda status: status["studies"].get("SKIPPED") == 1)
    found = stack.json("problems")
    assert [(study["study"], study["state"]) for study in found["studies"]] == [(knee.StudyInstanceUID, "SKIPPED")]
    assert found["studies"][0]["reason"]
    assert [refusal["instance"] for refusal in found["refused"]] == [knee.SOPInstanceUID]
