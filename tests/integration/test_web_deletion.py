"""Deleting a part of a study: it leaves every answer, and the study is what is left of it."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import YOUNG_S
from radir_pacs.types import JobKind, StudyState
from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_similar import archive, found, uid, uids
from tests.integration.test_web_wado import path_of

STUDY: dict[str, Any] = {"StudyInstanceUID": "1.5", "StudyDate": "20240105"}


def state_of(web: Web) -> StudyState:
    return web.catalogue.studies.get("1.5").state


@pytest.fixture
def images(web: Web) -> list[Any]:
    """Two series, of two radiographs and of one."""
    made = [
        radiograph(**STUDY, SeriesInstanceUID="1.5.1", Modality="DX"),
        radiograph(**STUDY, SeriesInstanceUID="1.5.1", Modality="DX"),
        radiograph(**STUDY, SeriesInstanceUID="1.5.2", Modality="CR"),
    ]
    web.store(*made)
    web.catalogue.studies.set_state("1.5", StudyState.SKIPPED, "not a chest", reason_code=ReasonCode.NOT_CHEST)
    return made


def test_an_instance_is_gone_and_the_study_is_looked_at_again(web: Web, images: list[Any]) -> None:
    blob = web.blobs.path(web.catalogue.instances.get(images[0].SOPInstanceUID).content_sha256)
    old = time.time() - 2 * YOUNG_S
    os.utime(blob, (old, old))
    before = web.catalogue.studies.revision_of("1.5")[1]
    assert web.ask("DELETE", path_of(images[0])).status_code == 204
    assert not blob.exists()
    assert web.get(path_of(images[0])).status_code == 404
    assert len(web.get("/studies/1.5/instances").json()) == 2
    assert len(web.get("/studies/1.5/metadata").json()) == 2
    assert web.ask("DELETE", path_of(images[0])).status_code == 404
    assert web.catalogue.studies.revision_of("1.5") == (StudyState.RECEIVING, before + 1)
    study = web.catalogue.studies.get("1.5")
    assert (study.reason, study.reason_code) == (None, None)
    assert web.catalogue.studies.complete_quiet(0) == ["1.5"]
    jobs = [web.catalogue.jobs.get(job_id) for job_id in web.catalogue.jobs.to_announce(10)]
    assert [(job.kind, job.key) for job in jobs if job] == [(JobKind.ENCODE, "1.5")]


def test_a_series_is_gone_with_its_modality(web: Web, images: list[Any]) -> None:
    assert web.ask("DELETE", "/studies/1.5/series/1.5.2").status_code == 204
    row = web.get("/studies?StudyInstanceUID=1.5").json()[0]
    assert row["00080061"]["Value"] == ["DX"]
    assert (row["00201206"]["Value"], row["00201208"]["Value"]) == ([1], [2])
    assert web.get("/studies/1.5/series/1.5.2").status_code == 404


def test_the_last_instance_takes_the_study_along(web: Web, images: list[Any]) -> None:
    for image in images:
        assert web.ask("DELETE", path_of(image)).status_code == 204
    assert web.get("/studies").status_code == 204
    assert web.ask("DELETE", "/studies/1.5").status_code == 404
    web.store(images[0])  # and may come again
    assert len(web.get("/studies/1.5/metadata").json()) == 1


def test_another_study_or_series_in_the_path_deletes_nothing(web: Web, images: list[Any]) -> None:
    web.store(radiograph(StudyInstanceUID="1.6", SeriesInstanceUID="1.6.1"))
    instance = images[0].SOPInstanceUID
    for path in (
        f"/studies/1.6/series/1.5.1/instances/{instance}",
        f"/studies/1.5/series/1.5.2/instances/{instance}",
        "/studies/1.6/series/1.5.1",
        "/studies/1.5/series/1.6.1",
        "/studies/1.5/series/1.5.9",
    ):
        assert web.ask("DELETE", path).status_code == 404, path
    assert len(web.get("/studies/1.5/instances").json()) == 3


def test_its_report_goes_with_a_structured_report(web: Web, images: list[Any]) -> None:
    report = radiograph(**STUDY, SeriesInstanceUID="1.5.3", Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    web.store(report)
    web.catalogue.reports.add("1.5", body="No pneumothorax.", source="sr", sop_uid=report.SOPInstanceUID)
    assert web.catalogue.reports.of_study("1.5")
    assert web.ask("DELETE", "/studies/1.5/series/1.5.3").status_code == 204
    assert not web.catalogue.reports.of_study("1.5")
    assert state_of(web) is StudyState.SKIPPED  # no image is gone: nothing to encode anew
    assert "SR" not in web.get("/studies?StudyInstanceUID=1.5").json()[0]["00080061"]["Value"]


def test_a_report_holds_again_when_the_one_that_replaced_it_is_deleted(web: Web, images: list[Any]) -> None:
    reports = web.catalogue.reports
    first, second = (image.SOPInstanceUID for image in images[:2])
    reports.add("1.5", body="Pneumothorax.", source="sr", sop_uid=first)
    reports.add("1.5", body="No pneumothorax.", source="sr", sop_uid=second, predecessors=(first,))
    assert [report.sop_uid for report in reports.of_study("1.5")] == [second]
    assert web.ask("DELETE", path_of(images[1])).status_code == 204
    assert [report.sop_uid for report in reports.of_study("1.5")] == [first]


def test_vectors_leave_the_answers_at_once(web: Web) -> None:
    made = archive(web)
    assert found(web, "") == uids(1, 2, 3, 4, 5, 6)
    web.store(radiograph(StudyInstanceUID=uid(1)))
    assert web.ask("DELETE", path_of(made[1])).status_code == 204
    assert found(web, "") == uids(2, 3, 4, 5, 6)
    assert web.ask("DELETE", f"/studies/{uid(2)}/series/{made[2].SeriesInstanceUID}").status_code == 204
    assert found(web, "") == uids(3, 4, 5, 6)
