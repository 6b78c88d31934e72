"""Reports and findings of studies, and the rows behind `radir status`."""

from __future__ import annotations

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import LeaseLost, NotFound
from radir_pacs.types import JobKind, JobState, StudyState
from tests.catalogue_material import add, claimed, header, mined_findings


def test_a_report_is_kept_once(catalogue: Catalogue) -> None:
    add(catalogue, header())
    first = catalogue.reports.add("2.25.1", body="Clear lungs.", source="sr", sop_uid="2.25.1.99.1")
    assert catalogue.reports.add("2.25.1", body="Clear lungs.", source="csv") == first
    assert catalogue.reports.add("2.25.1", body="Other text.", source="sr", sop_uid="2.25.1.99.1") == first
    second = catalogue.reports.add("2.25.1", body="Addendum.", source="sr", sop_uid="2.25.1.99.2")
    assert [report.id for report in catalogue.reports.of_study("2.25.1")] == [first, second]
    with pytest.raises(NotFound):
        catalogue.reports.add("2.25.404", body="Whose?", source="csv")


def test_findings_come_back_by_study(catalogue: Catalogue) -> None:
    for study in (1, 2, 3):
        add(catalogue, header(study))
    ids = [catalogue.reports.add(f"2.25.{study}", body=f"Text {study}", source="csv") for study in (1, 1, 2)]
    extra = catalogue.reports.add("2.25.1", body="More", source="csv")
    catalogue.reports.save_findings(ids[0], [{"concept": "effusion"}], "1")
    catalogue.reports.save_findings(extra, [{"concept": "nodule"}], "1")
    found = mined_findings(catalogue, "2.25.1", "2.25.2", "2.25.3")
    assert found == {"2.25.1": ([{"concept": "effusion"}], [{"concept": "nodule"}])}
    with pytest.raises(NotFound):
        catalogue.reports.save_findings(10**9, [], "1")


def test_a_report_ends_its_job_or_is_not_kept(catalogue: Catalogue) -> None:
    add(catalogue, header())
    job = claimed(catalogue, JobKind.REPORT, "2.25.1.99.1")
    catalogue.reports.add("2.25.1", body="Clear.", source="sr", job=job)
    found = catalogue.jobs.get(job.id)
    assert found is not None and found.state is JobState.DONE
    with pytest.raises(LeaseLost):
        catalogue.reports.add("2.25.1", body="Again.", source="sr", job=job)
    assert len(catalogue.reports.of_study("2.25.1")) == 1


def test_processes_say_that_they_live(catalogue: Catalogue) -> None:
    catalogue.processes.say_alive("relay", 10, "UP")
    catalogue.processes.say_alive("relay", 11, "UP", "restarted")
    catalogue.processes.say_gone("relay", 10)
    [process] = catalogue.processes.all()
    assert (process.name, process.pid, process.detail) == ("relay", 11, "restarted")
    assert 0 <= process.silent_s < 60
    catalogue.processes.prune(60)
    assert len(catalogue.processes.all()) == 1
    catalogue.processes.say_gone("relay", 11)
    assert catalogue.processes.all() == ()


def test_the_overview_counts(catalogue: Catalogue) -> None:
    assert catalogue.overview().oldest_open_job_s is None
    add(catalogue, header(1))
    catalogue.studies.complete_quiet(0)
    add(catalogue, header(2))
    overview = catalogue.overview()
    assert overview.studies == {StudyState.STABLE: 1, StudyState.RECEIVING: 1}
    [jobs] = overview.jobs
    assert (jobs.kind, jobs.state, jobs.count) == (JobKind.ENCODE, JobState.PENDING, 1)
    assert overview.oldest_open_job_s is not None and overview.oldest_open_job_s >= 0
