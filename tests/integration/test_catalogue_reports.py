"""Reports and findings of studies, and the rows behind `radir status`."""

from __future__ import annotations

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.errors import LeaseLost, NotFound
from radir_pacs.types import JobKind, JobState, StudyState
from tests.catalogue_material import add, claimed, header


def test_a_report_is_kept_once(catalogue: Catalogue) -> None:
    add(catalogue, header())
    first = catalogue.add_report("2.25.1", body="Clear lungs.", source="sr", sop_uid="2.25.1.99.1")
    assert catalogue.add_report("2.25.1", body="Clear lungs.", source="csv") == first
    assert catalogue.add_report("2.25.1", body="Other text.", source="sr", sop_uid="2.25.1.99.1") == first
    second = catalogue.add_report("2.25.1", body="Addendum.", source="sr", sop_uid="2.25.1.99.2")
    assert [report.id for report in catalogue.reports_of("2.25.1")] == [first, second]
    with pytest.raises(NotFound):
        catalogue.add_report("2.25.404", body="Whose?", source="csv")


def test_findings_come_back_by_study(catalogue: Catalogue) -> None:
    for study in (1, 2, 3):
        add(catalogue, header(study))
    ids = [catalogue.add_report(f"2.25.{study}", body=f"Text {study}", source="csv") for study in (1, 1, 2)]
    extra = catalogue.add_report("2.25.1", body="More", source="csv")
    catalogue.save_findings(ids[0], [{"concept": "effusion"}], "1")
    catalogue.save_findings(extra, [{"concept": "nodule"}], "1")
    found = catalogue.findings_of(["2.25.1", "2.25.2", "2.25.3"])
    assert found == {"2.25.1": ([{"concept": "effusion"}], [{"concept": "nodule"}])}
    with pytest.raises(NotFound):
        catalogue.save_findings(10**9, [], "1")


def test_a_report_ends_its_job_or_is_not_kept(catalogue: Catalogue) -> None:
    add(catalogue, header())
    job = claimed(catalogue, JobKind.REPORT, "2.25.1.99.1")
    catalogue.add_report("2.25.1", body="Clear.", source="sr", job=job)
    found = catalogue.job(job.id)
    assert found is not None and found.state is JobState.DONE
    with pytest.raises(LeaseLost):
        catalogue.add_report("2.25.1", body="Again.", source="sr", job=job)
    assert len(catalogue.reports_of("2.25.1")) == 1


def test_processes_say_that_they_live(catalogue: Catalogue) -> None:
    catalogue.say_alive("relay", 10, "UP")
    catalogue.say_alive("relay", 11, "UP", "restarted")
    catalogue.say_gone("relay", 10)
    [process] = catalogue.processes()
    assert (process.name, process.pid, process.detail) == ("relay", 11, "restarted")
    assert 0 <= process.silent_s < 60
    catalogue.prune_processes(60)
    assert len(catalogue.processes()) == 1
    catalogue.say_gone("relay", 11)
    assert catalogue.processes() == ()


def test_the_overview_counts(catalogue: Catalogue) -> None:
    assert catalogue.overview().oldest_open_job_s is None
    add(catalogue, header(1))
    catalogue.complete_quiet(0)
    add(catalogue, header(2))
    overview = catalogue.overview()
    assert overview.studies == {StudyState.STABLE: 1, StudyState.RECEIVING: 1}
    [jobs] = overview.jobs
    assert (jobs.kind, jobs.state, jobs.count) == (JobKind.ENCODE, JobState.PENDING, 1)
    assert overview.oldest_open_job_s is not None and overview.oldest_open_job_s >= 0
