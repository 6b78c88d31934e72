"""The structured report that answers a question: fetched, posted, and sound whatever the headers say."""

from __future__ import annotations

import copy
import json
from io import BytesIO

import psycopg
import pydicom
import pytest
import requests
from psycopg.types.json import Jsonb
from pydicom.dataset import Dataset

from tests.integration.conftest import Web
from tests.integration.test_web_similar import DICOM_PARTS, found, hospital, images, uid, uids
from tests.integration.test_web_wado import parts_of, path_of

__all__ = ["hospital", "images"]  # fixtures


def test_the_report_comes_alone_or_as_a_part_and_is_not_stored(hospital: Web) -> None:
    path = f"/studies/{uid(0)}/similar?anatomy=left lung&limit=2"
    alone = hospital.get(path, "application/dicom")
    sr = pydicom.dcmread(BytesIO(alone.content))
    assert sr.StudyInstanceUID == uid(0) and sr.PatientID == "P0" and sr.Modality == "SR"
    assert b"Name1" not in alone.content and b"P1" not in alone.content
    (part,) = parts_of(hospital.get(path, DICOM_PARTS))
    assert pydicom.dcmread(BytesIO(part.get_payload(decode=True))).SOPClassUID == sr.SOPClassUID
    assert len(hospital.catalogue.instances.of_study(uid(0))) == 1


def test_a_posted_report_is_found_and_fetched_by_a_client(web: Web, images: list[Dataset]) -> None:
    answer = web.ask("POST", f"/studies/{uid(0)}/similar?anatomy=left lung", "application/dicom")
    assert answer.status_code == 201
    sr = pydicom.dcmread(BytesIO(answer.content))
    assert answer.headers["Location"] == web.base + path_of(sr)
    rows = web.client.search_for_instances(uid(0), search_filters={"Modality": "SR"})
    assert [row["00080018"]["Value"][0] for row in rows] == [sr.SOPInstanceUID]
    assert web.client.retrieve_instance(uid(0), sr.SeriesInstanceUID, sr.SOPInstanceUID) == sr
    assert found(web, "limit=1") == uids(1)  # a report of ours triggers no work


def test_a_second_report_names_the_one_before(web: Web, images: list[Dataset]) -> None:
    path = f"/studies/{uid(0)}/similar?anatomy="
    first, other, second = (
        pydicom.dcmread(BytesIO(web.ask("POST", path + region, "application/dicom").content))
        for region in ("left lung", "right lung", "left lung")
    )
    assert "PredecessorDocumentsSequence" not in other
    series = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_posting_answers_rows_when_these_are_accepted(web: Web, images: list[Dataset]) -> None:
    answer = web.ask("POST", f"/studies/{uid(0)}/similar?limit=2")
    assert answer.status_code == 201
    assert len(answer.json()) == 2
    assert len(web.catalogue.instances.of_study(uid(0))) == 2


ODD_NUMBERS = {
    "00281050": {"vr": "DS", "Value": ["2048,0"]},
    "00181164": {"vr": "DS", "Value": ["2,8 mm", None]},
    "00180060": {"vr": "DS", "Value": ["120 kV"]},
    "00200013": {"vr": "IS", "Value": [7.5]},
    "00280030": {"vr": "DS", "Value": [1e308, True]},
    "00200020": {"vr": "CS", "Value": [None, {}]},
    "00100010": {"vr": "PN", "Value": ["no object"]},
    "00540220": {"vr": "SQ", "Value": [None, "text", {"00080100": None}]},
    "99999999": {"vr": "ZZ", "Value": [1]},
}


@pytest.mark.parametrize("number", [0, 1])
def test_no_stored_header_breaks_an_answer(web: Web, images: list[Dataset], number: int) -> None:
    """As header of the query image or of a case found: the report, the rows, the sidebar, metadata and QIDO."""
    with psycopg.connect(web.settings.database_url) as connection:
        odd = Jsonb(ODD_NUMBERS)
        changed = connection.execute(
            "UPDATE instance SET attributes = attributes || %s WHERE study_uid = %s", [odd, uid(number)]
        )
        assert changed.rowcount == 1
    similar = f"/studies/{uid(0)}/similar?anatomy=left lung"
    assert web.get(similar, "application/dicom").status_code == 200
    assert len(web.get(similar, "application/json").json()) == 6
    assert len(web.get("/studies?includefield=all", "application/json").json()) == 7
    for path in (f"/studies/{uid(number)}/metadata", f"/studies/{uid(number)}/instances?includefield=all"):
        assert len(web.get(path, "application/json").json()) == 1
    sidebar = requests.get(f"{web.root}/api/studies/{uid(0)}/similar?anatomy=left lung", timeout=30)
    assert sidebar.status_code == 200, sidebar.text
    lines = [json.loads(line) for line in sidebar.text.splitlines()]
    assert [line["rank"] for line in lines if line["type"] == "case"] == [1, 2, 3, 4, 5, 6]
    assert lines[-1] == {"type": "end"}


def test_a_corrected_patient_is_the_patient_of_the_report(web: Web, images: list[Dataset]) -> None:
    """Also where only another instance of the study was corrected so far."""
    query = images[0]
    for patient, name in (("P0", "Name0^X"), ("RIGHT", "Right^Person")):
        other = copy.deepcopy(query)
        other.SOPInstanceUID, other.PatientID, other.PatientName = "1.2.0.77", patient, name
        other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
        web.store(other)
    answer = web.get(f"/studies/{uid(0)}/similar?anatomy=left lung", "application/dicom")
    report = pydicom.dcmread(BytesIO(answer.content))
    assert (report.PatientID, report.PatientName) == ("RIGHT", "Right^Person")
    rows = web.get(f"/studies?StudyInstanceUID={uid(0)}", "application/json").json()
    assert rows[0]["00100020"]["Value"] == ["RIGHT"]
    own = web.get(f"/studies/{uid(0)}/instances?SOPInstanceUID={query.SOPInstanceUID}&includefield=PatientID")
    assert own.json()[0]["00100020"]["Value"] == ["P0"], "each instance says what it says"
    images[1].PatientID = "RIGHT"
    web.store(images[1])
    assert uid(1) not in found(web, "anatomy=left lung"), "now a study of the same patient"


def test_a_patient_with_two_ids_is_found_by_both_and_the_report_names_the_first(
    web: Web, images: list[Dataset]
) -> None:
    images[0].PatientID = ["P0", "P3"]
    web.store(images[0])
    for patient_id in ("P0", "P3"):
        rows = web.get(f"/studies?PatientID={patient_id}", "application/json").json()
        assert ["P0", "P3"] in [row["00100020"]["Value"] for row in rows]
    assert uid(3) not in found(web, "anatomy=left lung")
    answer = web.get(f"/studies/{uid(0)}/similar?anatomy=left lung", "application/dicom")
    assert pydicom.dcmread(BytesIO(answer.content)).PatientID == "P0"
