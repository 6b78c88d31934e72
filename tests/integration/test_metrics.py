"""/metrics as Prometheus scrapes it: what the processes count, what the archive holds, and who may read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from radir_pacs import metrics
from radir_pacs.callers import Caller, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.monitor import Monitor
from radir_pacs.cli.supervisor import Supervisor
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed
from radir_pacs.monitoring import ArchiveFigures, Exposition
from radir_pacs.reasons import ReasonCode
from radir_pacs.scopes import Scope, Withheld
from radir_pacs.types import JobKind, StudyState
from tests.catalogue_material import MODEL, add, encoded, header, register
from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.listening import wait_for

TESTER = Caller(name="test", role=Role.ADMINISTRATOR)


def figures(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_nothing_of_a_patient_is_told(web: Web) -> None:
    ds = radiograph(PatientName="Doe^Jane", PatientID="PID-4711-X")
    web.store(ds)
    web.get(f"/studies/{ds.StudyInstanceUID}/metadata")
    web.get("/studies/<script>/similar")
    route = (("method", "GET"), ("route", "/dicom-web/studies/<study>/metadata"), ("status", "200"))
    wait_for(lambda: ("radir_http_requests_total", route) in figures(requests.get(f"{web.root}/metrics").text))
    text = requests.get(f"{web.root}/metrics", timeout=30).text
    found = figures(text)
    assert found["radir_database_up", ()] == 1
    assert found["radir_instances_total", (("outcome", "stored"),)] >= 1
    for secret in ("Doe", "PID-4711", ds.StudyInstanceUID, ds.SOPInstanceUID, "script"):
        assert secret not in text


def test_they_are_for_administrators_and_services(web: Web, catalogue: Catalogue, settings: Settings) -> None:
    tokens = {role: catalogue.access_tokens.create(role, role, by=TESTER) for role in (Role.RADIOLOGIST, Role.SERVICE)}
    north = Scope(sites=frozenset({"North"}))
    scoped = catalogue.access_tokens.create("North", Role.SERVICE, by=TESTER, scope=north)
    bearing: dict[str, str] = {role: f"Bearer {token}" for role, token in tokens.items()}
    bearing |= {Role.NOBODY: "", "North": f"Bearer {scoped}"}
    catalogue.withheld.add("P1", Withheld.FROM_ALL, by=TESTER)  # which leaves the figures to a service
    wait_for(lambda: requests.get(f"{web.root}/metrics", timeout=30).status_code == 401)
    statuses = {
        role: requests.get(f"{web.root}/metrics", headers={"Authorization": said}, timeout=30).status_code
        for role, said in bearing.items()
    }
    assert statuses == {Role.RADIOLOGIST: 403, Role.SERVICE: 200, Role.NOBODY: 401, "North": 403}
    beyond = Monitor(replace(settings, monitor_host="0.0.0.0"), Supervisor(settings), catalogue)
    assert {role: beyond.may_read(said, "here:9470") for role, said in bearing.items()} == {
        Role.RADIOLOGIST: False,
        Role.SERVICE: True,
        Role.NOBODY: False,
        "North": False,
    }
    within = Monitor(settings, Supervisor(settings), catalogue)
    assert within.may_read("", "127.0.0.1:9470") and within.may_read("", "[::1]:9470")
    assert not within.may_read("", "rebound.example:9470"), "a page of another site, by a name that leads here"


def test_the_archive_in_figures(catalogue: Catalogue, settings: Settings) -> None:
    register(catalogue)
    encoded(catalogue, 1)
    waiting = catalogue.jobs.enqueue(JobKind.PULL, "2.25.77")
    job = catalogue.jobs.claim(catalogue.jobs.enqueue(JobKind.SEND, "2.25.78"), "test")
    assert job is not None and waiting
    catalogue.jobs.fail(job, "no answer", reason_code=ReasonCode.PEER_NO_ANSWER, retry=False)
    add(catalogue, header(9))
    catalogue.studies.set_state(
        header(9).study_uid, StudyState.QUARANTINED, "blank", reason_code=ReasonCode.BLANK_IMAGE
    )
    catalogue.processes.say_alive("worker-2@b", 7, "UP", "")
    settings.home.mkdir(exist_ok=True)
    found = figures(Exposition(settings, None, ArchiveFigures(catalogue)).text().decode())
    assert found["radir_queue_jobs", (("queue", "pull"), ("state", "waiting"))] == 1
    assert found["radir_queue_oldest_seconds", (("queue", "pull"),)] >= 0
    assert found["radir_queue_oldest_seconds", (("queue", "train"),)] == 0
    assert found["radir_jobs_failed", (("kind", "send"), ("reason", "PEER_NO_ANSWER"))] == 1
    assert found["radir_studies_quarantined", (("reason", "BLANK_IMAGE"),)] == 1
    assert found["radir_processes_up", (("role", "worker"),)] == 1
    assert found["radir_partition_tail", (("model", MODEL), ("region", "chest"))] == 1
    assert found["radir_partition_cases", (("model", MODEL), ("region", "chest"))] == 0
    assert found["radir_model_coverage", (("model", MODEL),)] == 1
    assert found["radir_disk_free_bytes", ()] > 0


def test_without_the_database_only_that_is_said(settings: Settings, catalogue: Catalogue) -> None:
    catalogue.close()
    found = figures(Exposition(settings, None, ArchiveFigures(catalogue)).text().decode())
    assert found["radir_database_up", ()] == 0 and not any(name == "radir_queue_jobs" for name, _ in found)


def test_a_count_that_fails_hides_no_queue(
    settings: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.jobs.enqueue(JobKind.PULL, "2.25.77")
    with catalogue.withheld._database.transaction() as connection:
        connection.execute("UPDATE job SET state = 'FAILED', kind = 'of_a_newer_version'")

    def too_slow() -> None:
        raise StorageFailed("a statement took too long")

    monkeypatch.setattr(catalogue.models, "kept", too_slow)
    settings.home.mkdir(exist_ok=True)
    found = figures(Exposition(settings, None, ArchiveFigures(catalogue)).text().decode())
    assert found["radir_database_up", ()] == 1
    assert found["radir_jobs_failed", (("kind", "of_a_newer_version"), ("reason", "OTHER"))] == 1
    assert [found["radir_figures_failed", (("part", part),)] for part in ("work", "holdings")] == [0, 1]


def test_an_answer_is_kept_for_some_seconds(catalogue: Catalogue) -> None:
    now = [0.0]
    archive = ArchiveFigures(catalogue, clock_s=lambda: now[0])
    jobs = lambda: {  # noqa: E731
        sample.labels["queue"]: sample.value
        for metric in archive.collect()
        for sample in metric.samples
        if metric.name == "radir_queue_jobs" and sample.labels["state"] == "waiting"
    }
    assert jobs()["pull"] == 0
    catalogue.jobs.enqueue(JobKind.PULL, "2.25.77")
    assert jobs()["pull"] == 0
    now[0] = 6.0
    assert jobs()["pull"] == 1


def test_folders_of_earlier_starts_are_removed(tmp_path: Path) -> None:
    first = metrics.make_folder(tmp_path, "all")
    (first / "gauge_livesum_web-2.db").write_bytes(b"")
    metrics.forget_process(first, "web_2")
    assert not any(first.iterdir())
    second = metrics.make_folder(tmp_path, "all")
    assert second.is_dir() and not first.exists()
    second.rmdir()
