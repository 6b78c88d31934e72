"""Completing, deleting and looking after studies."""

from __future__ import annotations

import os
import time
from typing import Any

import requests

from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import YOUNG_S
from radir_pacs.types import StudyState
from tests.dicom_files import radiograph
from tests.integration.conftest import Web


def test_a_study_is_completed_once(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    path = f"/studies/{ds.StudyInstanceUID}"
    assert web.get(path + "/state").json()["state"] == "RECEIVING"
    first, second = (web.ask("POST", path + "/complete") for _ in range(2))
    assert (first.status_code, first.json()["started"], first.json()["state"]) == (202, True, "STABLE")
    assert (second.status_code, second.json()["started"]) == (202, False)
    assert web.catalogue.studies.get(ds.StudyInstanceUID).state is StudyState.STABLE
    assert web.ask("POST", "/studies/1.2.3/complete").status_code == 404


def test_the_state_tells_the_reason(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    web.catalogue.studies.set_state(
        ds.StudyInstanceUID, StudyState.SKIPPED, "not a chest", reason_code=ReasonCode.NOT_CHEST
    )
    answer = web.get(f"/studies/{ds.StudyInstanceUID}/state").json()
    assert answer == {
        "study": ds.StudyInstanceUID,
        "state": "SKIPPED",
        "reason": "not a chest",
        "reason_code": "NOT_CHEST",
        "instances": 1,
    }


def test_a_deleted_study_is_gone_with_its_files(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    blob = web.blobs.path(web.catalogue.instances.get(ds.SOPInstanceUID).content_sha256)
    old = time.time() - 2 * YOUNG_S
    os.utime(blob, (old, old))
    path = f"/studies/{ds.StudyInstanceUID}"
    assert web.ask("DELETE", path).status_code == 204
    assert not blob.exists()
    assert web.get(path + "/metadata").status_code == 404
    assert web.ask("DELETE", path).status_code == 404
    web.store(ds)  # and may come again


def test_status_counts_and_names_no_patient(web: Web) -> None:
    web.store(radiograph())
    answer = requests.get(web.root + "/status", timeout=30)
    status: dict[str, Any] = answer.json()
    assert status["studies"]["RECEIVING"] == 1
    assert "Test" not in answer.text and "TEST-1" not in answer.text
