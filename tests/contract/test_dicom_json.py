"""The rows of an answer are DICOM JSON (PS3.18 annex F), and a DICOMweb client can read them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from radir_pacs import anatomy
from radir_pacs.delivery.dicom_json import (
    PRIVATE_CREATOR,
    PRIVATE_TAGS,
    similar_cases_rows,
    study_row,
)
from radir_pacs.similar_cases import SimilarCaseList
from radir_pacs.types import CatalogueStudy, StudyState
from tests.sr_material import similar_answer

STUDY = CatalogueStudy(
    study_uid="1.2.9.0.1",
    state=StudyState.INDEXED,
    modalities=("CT", "SR"),
    study_date=date(2019, 2, 3),
    study_time="101112",
    patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう",
    patient_id="P-2",
    patient_birth_date=date(1960, 5, 6),
    patient_sex="M",
    series_count=2,
    instance_count=40,
)


@pytest.fixture
def answer() -> SimilarCaseList:
    return similar_answer(region_asked=anatomy.region("lingula"), region_answered=anatomy.region("left_upper_lobe"))


@pytest.fixture
def served(answer: SimilarCaseList) -> Iterator[DICOMwebClient]:
    """A DICOMweb client of a server that answers every request with our rows."""
    body = json.dumps(similar_cases_rows(answer, "http://pacs/dicom-web")).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield DICOMwebClient(f"http://127.0.0.1:{server.server_address[1]}/dicom-web")
    server.shutdown()
    server.server_close()
    thread.join()


def check_model(attributes: dict[str, Any]) -> None:
    """PS3.18 F.2.2: keys of eight upper-case hex digits in ascending order, no empty Value, in items as well."""
    assert list(attributes) == sorted(attributes)
    for tag, element in attributes.items():
        assert len(tag) == 8 and tag == tag.upper() and int(tag, 16) >= 0
        assert set(element) <= {"vr", "Value", "BulkDataURI", "InlineBinary"} and len(element["vr"]) == 2
        if "Value" in element:
            assert element["Value"]
            assert all(value is not None for value in element["Value"])
        if element["vr"] == "SQ":
            for item in element.get("Value", ()):
                check_model(item)


def test_rows_keep_the_json_model(answer: SimilarCaseList) -> None:
    rows = similar_cases_rows(answer, "http://pacs/dicom-web/")
    assert len(rows) == 3
    for row in rows:
        check_model(row)
        json.dumps(row, allow_nan=False)
    assert rows[0]["00081190"]["Value"] == ["http://pacs/dicom-web/studies/1.2.9.0.1"]
    assert "Value" not in rows[0]["00080050"]


def test_names_are_objects_and_dates_are_compact() -> None:
    row = study_row(STUDY)
    assert row["00100010"]["Value"] == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]
    assert row["00080020"]["Value"] == ["20190203"]
    early = study_row(replace(STUDY, study_date=date(1, 1, 1)))  # what some modalities send for an unknown day
    assert early["00080020"]["Value"] == ["00010101"]
    assert row["00080061"]["Value"] == ["CT", "SR"]
    assert "00081190" not in row
    empty = study_row(CatalogueStudy(study_uid="1.2", state=StudyState.STABLE))
    assert empty["00100010"] == {"vr": "PN"}
    check_model(empty)


def test_what_is_similar_stands_in_a_private_block(answer: SimilarCaseList) -> None:
    for place, row in enumerate(similar_cases_rows(answer)):
        case = answer.cases[place]
        assert row["00990010"] == {"vr": "LO", "Value": [PRIVATE_CREATOR]}
        said = {name: row[tag].get("Value", [None])[0] for name, tag in PRIVATE_TAGS.items() if tag in row}
        assert (said["score"], said["rank"]) == (case.score, case.rank)
        assert (said["region_asked_key"], said["region_answered_name"]) == ("lingula", "left upper lobe")
        assert (said["model_id"], said["generation"], said["search"]) == ("cxr-tiny-1", "g-17", "APPROXIMATE")
        assert said["as_of"] == "20260102030000.000000+0000"
        assert (said["series_uid"], said["sop_uid"]) == (case.series_uid, case.sop_uid)
        assert said["shared"] == "pleural effusion|left_pleura|present|mild"
        assert said["contradicting"] == "mass|right_costophrenic_angle|present|"
        assert said["region_answered"]["00080100"]["Value"] == ["45653009"]
        assert all(int(tag[:4], 16) % 2 == 0 or tag.startswith("0099") for tag in row)


def test_rows_come_by_rank(answer: SimilarCaseList) -> None:
    shuffled = similar_answer(cases=answer.cases[::-1])
    ranks = [row[PRIVATE_TAGS["rank"]]["Value"][0] for row in similar_cases_rows(shuffled)]
    assert ranks == [1, 2, 3]


def test_dicomweb_client_reads_the_rows(served: DICOMwebClient) -> None:
    rows = served.search_for_studies(search_filters={"similarto": "1.2.3.1.1", "anatomy": "lingula"})
    found = [Dataset.from_json(row) for row in rows]
    assert [ds.StudyInstanceUID for ds in found] == ["1.2.9.0.1", "1.2.9.1.1", "1.2.9.2.1"]
    block = found[0].private_block(0x0099, PRIVATE_CREATOR)
    assert block[0x02].value == 1
    assert block[0x01].value == pytest.approx(0.987654321)
    region = block[0x03].value[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("45653009", "Left")
