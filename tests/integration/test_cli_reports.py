"""``radir reports``: a table of reports becomes rows and jobs, each with its study; one bad row costs one row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.query.explain import Explanation
from radir_pacs.types import JobKind, JobState
from radir_workers.mine_report import MineReport
from radir_workers.runner import Runner
from tests.catalogue_material import MODEL, add, encoded, mined_findings, receive, register, report_header

SR_TEXT = {"0040A040": {"vr": "CS", "Value": ["TEXT"]}, "0040A160": {"vr": "UT", "Value": ["No pneumothorax."]}}


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find this test's installation."""
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def studies(catalogue: Catalogue) -> None:
    """Three encoded studies; the second and the third have one accession number."""
    register(catalogue)
    for study in (1, 2, 3):
        encoded(catalogue, study, accession_number=f"A{min(study, 2)}")


def taken(path: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main(["reports", str(path), "--text", "findings,impression", "--json", *words]) == code
    return json.loads(capsys.readouterr().out)


def table(folder: Path, *rows: str) -> Path:
    path = folder / "reports.csv"
    path.write_text("\n".join(["study,accession,findings,impression", *rows]) + "\n")
    return path


def mine_all(catalogue: Catalogue) -> list[JobState]:
    """Every waiting report job through a worker's runner."""
    runner = Runner(catalogue, {JobKind.REPORT: MineReport(catalogue)}, worker="test", lease_s=60)
    found = [(job_id, catalogue.jobs.get(job_id)) for job_id in catalogue.jobs.to_announce(100)]
    ids = [job_id for job_id, job in found if job is not None and job.kind is JobKind.REPORT]
    for job_id in ids:
        runner.run(job_id)
    return [job.state for job_id in ids if (job := catalogue.jobs.get(job_id)) is not None]


def concepts(catalogue: Catalogue, study: int) -> set[tuple[str, str]]:
    """(concept, polarity) of everything mined for a study."""
    bodies = mined_findings(catalogue, f"2.25.{study}").get(f"2.25.{study}", ())
    return {(finding["concept"], finding["polarity"]) for findings in bodies for finding in findings}


def test_reports_by_study_are_kept_mined_and_explain(
    catalogue: Catalogue, studies: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(
        tmp_path,
        "2.25.1,,Large left pleural effusion.,Effusion.",
        '2.25.2,,"Small left pleural effusion,\nno pneumothorax.",',
        "2.25.3,,No pleural effusion.,",
    )
    assert taken(path, capsys, "--study", "study") == {
        "new": 3,
        "replaced": 0,
        "same": 0,
        "waiting": 0,
        "left_out": [],
    }
    [report] = catalogue.reports.of_study("2.25.1")
    assert report.source == "csv" and report.body.startswith("FINDINGS: Large") and report.findings is None
    assert np.count_nonzero(catalogue.cases.all(MODEL).rows["has_report"]) == 3
    assert mine_all(catalogue) == [JobState.DONE] * 3
    assert ("pleural_effusion", "present") in concepts(catalogue, 1)
    explanation = Explanation(mined_findings(catalogue, "2.25.1", "2.25.2", "2.25.3"), "2.25.1", ["pleura"])
    shared, _ = explanation.of("2.25.2")
    assert [note.concept for note in shared] == ["pleural_effusion"]
    _, contradicting = explanation.of("2.25.3")
    assert [note.polarity for note in contradicting] == ["absent"]


def test_a_corrected_text_replaces_the_earlier_one_of_its_source(
    catalogue: Catalogue, studies: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(catalogue, report_header(attributes={"0040A730": {"vr": "SQ", "Value": [SR_TEXT]}}))
    wrong, right = "2.25.1,,Large left pleural effusion.,", "2.25.1,,Right lower lobe pneumonia.,"
    taken(table(tmp_path, wrong), capsys, "--study", "study")
    mine_all(catalogue)
    assert taken(table(tmp_path, wrong), capsys, "--study", "study")["same"] == 1
    assert mine_all(catalogue) == []
    assert taken(table(tmp_path, right), capsys, "--study", "study")["replaced"] == 1
    assert concepts(catalogue, 1) == {("pneumothorax", "absent")}, "nothing is said by what was withdrawn"
    assert mine_all(catalogue) == [JobState.DONE]
    assert concepts(catalogue, 1) == {("pneumothorax", "absent"), ("pneumonia", "present")}
    assert [report.source for report in catalogue.reports.of_study("2.25.1")] == ["sr", "csv"]
    assert taken(table(tmp_path, "2.25.1,,No pneumothorax.,"), capsys, "--study", "study")["replaced"] == 1


def test_rows_that_cannot_be_taken_are_named_and_the_rest_is_done(
    catalogue: Catalogue, studies: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(
        tmp_path,
        "2.25.1,A1,Clear lungs.,",
        "2.25.9,A9,Whose is it?,",
        "2.25.2,A2,Two studies.,",
        '2.25.1,A1,"broken " quotes,',
        "2.25.1,A1,three columns",
        "2.25.1,A1,, ",
        "Doe^Jane,,Clear.,",
    )
    path.write_bytes(path.read_bytes() + b"2.25.3,A\0,Clear.,\n")
    expected = {
        "line 4": "several studies have this accession number",
        "line 5": "broken quotes",
        "line 6": "3 columns where the header has 4",
        "line 7": "no text",
        "line 8": "no id",
        "line 9": "a value cannot be stored (DataError)",
    }
    said = taken(path, capsys, "--accession", "accession", code=1)
    assert {bad["row"]: bad["reason"] for bad in said["left_out"]} == expected
    assert (said["new"], said["waiting"]) == (1, 1) and len(catalogue.reports.of_study("2.25.1")) == 1
    assert main(["reports", str(path), "--study", "study", "--text", "findings"]) == 1
    told = capsys.readouterr()
    assert "error: line 8: not a Study Instance UID" in told.err and "1 waiting for their study" in told.out
    assert "Doe" not in told.err + told.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--study", "uid", "--text", "findings"], "no column 'uid'"),
        (["--study", "study", "--text", " , "], "--text"),
    ],
)
def test_a_table_without_its_columns_is_refused(
    words: list[str], complaint: str, catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path, "2.25.1,A1,Clear.,")
    assert main(["reports", str(path), *words]) == 1
    assert complaint in capsys.readouterr().err
    assert main(["reports", str(tmp_path), "--study", "study", "--text", "findings"]) == 1
    assert "folder" in capsys.readouterr().err


def test_a_report_that_is_replaced_while_it_is_mined_leaves_nothing(catalogue: Catalogue, studies: None) -> None:
    receive(catalogue, "2.25.1", "Large left pleural effusion.")
    [job_id] = [i for i in catalogue.jobs.to_announce(100) if (j := catalogue.jobs.get(i)) and j.kind is JobKind.REPORT]
    job = catalogue.jobs.claim(job_id, "slow")
    assert job is not None
    receive(catalogue, "2.25.1", "Clear lungs.")
    MineReport(catalogue)(job)
    ended = catalogue.jobs.get(job_id)
    assert ended is not None and ended.state is JobState.DONE
    assert mined_findings(catalogue, "2.25.1") == {}
    assert mine_all(catalogue) == [JobState.DONE]
    assert len(mined_findings(catalogue, "2.25.1")) == 1
    catalogue.studies.delete("2.25.1")


def test_a_text_that_could_not_be_mined_is_asked_for_again(catalogue: Catalogue, studies: None) -> None:
    receive(catalogue, "2.25.1", "Clear lungs.")
    [job_id] = [i for i in catalogue.jobs.to_announce(100) if (j := catalogue.jobs.get(i)) and j.kind is JobKind.REPORT]
    job = catalogue.jobs.claim(job_id, "test")
    assert job is not None and catalogue.jobs.fail(job, "broke", retry=False) is JobState.FAILED
    receive(catalogue, "2.25.1", "Clear lungs.")
    assert mine_all(catalogue) == [JobState.DONE]
    assert len(mined_findings(catalogue, "2.25.1")) == 1
