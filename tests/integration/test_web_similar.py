"""The similar-case query over the web: rows by what is accepted, filters inside the search, paging."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import requests
from pydicom.dataset import Dataset

from radir_pacs.delivery.dicom_json import PRIVATE_CREATOR, PRIVATE_TAGS
from radir_pacs.reports import PARSER, findings_to_json, mine
from radir_pacs.types import Encoding, ImageKind
from tests.catalogue_material import serve_model
from tests.dicom_files import radiograph
from tests.integration.conftest import Web

MODEL = "test-model"
REGIONS = ("chest", "left_lung", "right_lung")
MODALITIES = ("DX", "DX", "CR", "DX", "CR", "DX", "CR")
DICOM_PARTS = 'multipart/related; type="application/dicom"'


def uid(number: int) -> str:
    return f"1.2.{number}"


def at_angle(number: int) -> Any:
    """A unit vector that is the further from the one of study 0 the greater the number."""
    angle = 0.1 * number
    return np.array([np.cos(angle), np.sin(angle), 0, 0], np.float32)


def encode(web: Web, image: Dataset, *vectors: Any) -> None:
    """Save what a model would have made of a stored image: a vector for each region, or one for all."""
    rows = vectors if len(vectors) > 1 else vectors * len(REGIONS)
    encoding = Encoding(
        study_uid=image.StudyInstanceUID,
        series_uid=image.SeriesInstanceUID,
        sop_uid=image.SOPInstanceUID,
        model_id=MODEL,
        regions=REGIONS,
        vectors=np.stack(rows),
    )
    assert web.catalogue.encodings.save(encoding, 1)


def archive(web: Web) -> list[Dataset]:
    """Study 0, and six more in falling similarity to it; each of a patient of its own."""
    serve_model(web.catalogue, MODEL, ImageKind.CXR, 4, {})
    images = []
    for number, modality in enumerate(MODALITIES):
        image = radiograph(
            StudyInstanceUID=uid(number),
            Modality=modality,
            PatientID=f"P{number}",
            AccessionNumber=f"ACC-{number}",
            PatientName=f"Name{number}^X",
            PatientSex="FM"[number % 2],
            PatientAge=f"0{30 + number}Y",
            StudyDate=f"202{number}0101",
            ImagerPixelSpacing=[1, 1],
            ReferringPhysicianName="",
        )
        web.store(image)
        encode(web, image, at_angle(number))
        images.append(image)
    return images


@pytest.fixture(scope="module")
def hospital(shared_web: Web) -> Web:
    archive(shared_web)
    return shared_web


@pytest.fixture
def images(web: Web) -> list[Dataset]:
    return archive(web)


def found(web: Web, query: str) -> list[str]:
    answer = web.get(f"/studies/{uid(0)}/similar?{query}")
    assert answer.status_code == 200, answer.text
    return [row["0020000D"]["Value"][0] for row in answer.json()]


def uids(*numbers: int) -> list[str]:
    return [uid(number) for number in numbers]


def test_rows_are_study_rows_with_a_private_block(hospital: Web) -> None:
    answer = hospital.get(f"/studies/{uid(0)}/similar?anatomy=LLL&limit=3")
    assert answer.headers["Content-Type"] == "application/dicom+json"
    rows = answer.json()
    assert [row["0020000D"]["Value"] for row in rows] == [[uid(1)], [uid(2)], [uid(3)]]
    first = rows[0]
    assert list(first) == sorted(first)
    assert first["00990010"]["Value"] == [PRIVATE_CREATOR]
    assert first[PRIVATE_TAGS["rank"]]["Value"] == [1]
    assert first[PRIVATE_TAGS["score"]]["Value"][0] == pytest.approx(np.cos(0.1), abs=1e-5)
    assert first[PRIVATE_TAGS["model_id"]]["Value"] == [MODEL]
    assert first[PRIVATE_TAGS["region_asked_key"]]["Value"] == ["left_lower_lobe"]
    assert first[PRIVATE_TAGS["region_answered_key"]]["Value"] == ["left_lung"]  # the model knows no lobes
    assert first["00081190"]["Value"] == [f"{hospital.base}/studies/{uid(1)}"]
    assert "answered from left lung" in answer.headers["Warning"]
    assert f"299 {hospital.base}: There are 3 additional results that can be requested" in answer.headers["Warning"]


def test_the_qido_way_gives_the_same(hospital: Web) -> None:
    one = hospital.get(f"/studies/{uid(0)}/similar?anatomy=left lung&limit=2")
    two = hospital.get(f"/studies?similarto={uid(0)}&anatomy=left lung&limit=2")
    as_of = PRIVATE_TAGS["as_of"]
    assert [row | {as_of: None} for row in one.json()] == [row | {as_of: None} for row in two.json()]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", (1, 2, 3, 4, 5, 6)),
        ("anatomy=right lung", (1, 2, 3, 4, 5, 6)),
        ("Modality=CR", (2, 4, 6)),
        ("ModalitiesInStudy=CR,DX", (1, 2, 3, 4, 5, 6)),
        ("StudyDate=20230101-", (3, 4, 5, 6)),
        ("StudyDate=20220101-20240101", (2, 3, 4)),
        ("PatientSex=M", (1, 3, 5)),
        ("PatientAge=032Y-034Y", (2, 3, 4)),
        ("PatientAge=33", (3,)),
        ("PatientAge=-031Y", (1,)),
        ("PatientSex=M&Modality=DX&StudyDate=20220101-&limit=1", (3,)),
        ("BodyPartExamined=CHEST", (1, 2, 3, 4, 5, 6)),
        ("BodyPartExamined=chest", (1, 2, 3, 4, 5, 6)),
        ("nonsense=1", (1, 2, 3, 4, 5, 6)),
        ("limit=2&offset=3", (4, 5)),
    ],
)
def test_filters_act_inside_the_search(hospital: Web, query: str, numbers: tuple[int, ...]) -> None:
    assert found(hospital, query) == uids(*numbers)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("PatientID=P3", (3,)),
        ("PatientID=P*", (1, 2, 3, 4, 5, 6)),
        ("AccessionNumber=ACC-4", (4,)),
        ("00080050=*-5", (5,)),
        ("PatientName=name2*", (2,)),
        ("PatientName=name2&fuzzymatching=true", (2,)),
        ("PatientName=name2*&PatientSex=M", ()),
        (f"StudyInstanceUID={uid(2)},{uid(5)}", (2, 5)),
        ("SeriesDescription=*&PatientID=P6", (6,)),
        ("ImagerPixelSpacing=1&PatientID=P6", (6,)),  # read from the headers of the instances
        ("ImagerPixelSpacing=2", ()),
        ("ModalitiesInStudy=C*", (2, 4, 6)),
        ("Modality=CR&ModalitiesInStudy=DX", ()),
        ("BodyPartExamined=ABDOMEN,CHEST", (1, 2, 3, 4, 5, 6)),
    ],
)
def test_every_key_of_a_search_for_studies_filters(hospital: Web, query: str, numbers: tuple[int, ...]) -> None:
    for _ in range(2):  # asked of the database, and answered again from memory
        answer = hospital.get(f"/studies/{uid(0)}/similar?{query}")
        assert [row["0020000D"]["Value"][0] for row in (answer.json() if numbers else [])] == uids(*numbers)
        assert answer.status_code == (200 if numbers else 204)
        assert "is not a filter" not in answer.headers.get("Warning", "")


@pytest.mark.parametrize("name", ["nonsense", "ReferencedSeriesSequence"])
def test_what_is_no_filter_is_ignored_and_said_so(hospital: Web, name: str) -> None:
    answer = hospital.get(f"/studies/{uid(0)}/similar?{name}=1")
    assert len(answer.json()) == 6
    assert f"{name} is not a filter" in answer.headers["Warning"]


def test_a_date_that_is_none_is_refused_as_in_any_search(hospital: Web) -> None:
    assert hospital.get(f"/studies/{uid(0)}/similar?PatientBirthDate=soon").status_code == 400


def pages(web: Web, query: str) -> Iterator[list[str]]:
    """The pages of an answer, each asked for as the one before says."""
    path = f"/studies/{uid(0)}/similar"
    address = f"?{query}"
    while address:
        answer = web.get(path + address)
        assert answer.status_code == 200, answer.text
        ranks = [row[PRIVATE_TAGS["rank"]]["Value"][0] for row in answer.json()]
        assert ranks == list(range(ranks[0], ranks[0] + len(ranks)))
        yield [row["0020000D"]["Value"][0] for row in answer.json()]
        address = answer.links["next"]["url"] if "next" in answer.links else ""


@pytest.mark.parametrize("query", ["limit=2", "limit=1", "limit=2&anatomy=left lung:3,right lung", "limit=6"])
def test_pages_by_their_marks_give_the_whole_answer(hospital: Web, query: str) -> None:
    assert [one for page in pages(hospital, query) for one in page] == uids(1, 2, 3, 4, 5, 6)


def test_pages_neither_repeat_nor_skip_while_the_archive_changes(web: Web, images: list[Dataset]) -> None:
    turning = pages(web, "limit=2")
    assert next(turning) == uids(1, 2)
    late = radiograph(StudyInstanceUID=uid(9), PatientID="P9")
    web.store(late)
    encode(web, late, at_angle(0))
    web.catalogue.studies.delete(uid(1))
    assert next(turning) == uids(3, 4)
    web.catalogue.studies.delete(uid(5))
    assert next(turning) == uids(6)
    assert list(turning) == []
    assert found(web, "limit=3") == uids(9, 2, 3), "who asks anew sees what there is now"


def test_a_mark_tells_no_counts(hospital: Web) -> None:
    address = hospital.get(f"/studies/{uid(0)}/similar?limit=2").links["next"]["url"]
    mark = parse_qs(urlsplit(address).query)["page"][0]
    assert MODEL.encode() not in base64.urlsafe_b64decode(mark + "==")
    other = ("B" if mark[20] == "A" else "A").join((mark[:20], mark[21:]))
    assert hospital.get(f"/studies/{uid(0)}/similar?limit=2&page={other}").status_code == 400


def mark_of(seen: int = 2, score: object = 0.5) -> str:
    values = [MODEL, "chest", 100, score, 1, seen]
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "page",
    [
        "x",
        "",
        "W10",
        "WyJhIiwxLDEsMSwxXQ==",
        "bnVsbA",
        "WzEsMixOYU4sMyw0XQ",
        mark_of(seen=10**300),
        mark_of(score="NaN"),
    ],
)
def test_a_mark_that_nobody_gave_is_refused(hospital: Web, page: str) -> None:
    answer = hospital.get(f"/studies/{uid(0)}/similar?page={page}")
    assert answer.status_code == 400, answer.text


def test_a_mark_goes_with_the_region_that_answered(hospital: Web) -> None:
    address = hospital.get(f"/studies/{uid(0)}/similar?anatomy=left lung&limit=2").links["next"]["url"]
    assert hospital.get(f"/studies/{uid(0)}/similar{address.replace('left', 'right')}").status_code == 400


def test_a_page_and_an_offset_contradict_each_other(hospital: Web) -> None:
    address = hospital.get(f"/studies/{uid(0)}/similar?limit=2").links["next"]["url"]
    assert hospital.get(f"/studies/{uid(0)}/similar{address}&offset=2").status_code == 400


def test_several_regions_make_one_list_and_each_says_what_it_gave(web: Web, images: list[Dataset]) -> None:
    """Study 7 is nearest in the left lung and farthest in the right one."""
    mixed = radiograph(StudyInstanceUID=uid(7), PatientID="P7")
    web.store(mixed)
    encode(web, mixed, at_angle(0), at_angle(0), at_angle(15))
    assert found(web, "anatomy=left lung")[0] == uid(7)
    assert found(web, "anatomy=right lung")[-1] == uid(7)
    assert found(web, "anatomy=left lung:20,right lung")[:3] == uids(1, 2, 7)
    rows = web.get(f"/studies/{uid(0)}/similar?anatomy=left lung:3,right lung&limit=7").json()
    assert [row["0020000D"]["Value"][0] for row in rows][-1] == uid(7)
    items = rows[-1][PRIVATE_TAGS["regions"]]["Value"]
    gave = [item[PRIVATE_TAGS["score"]]["Value"][0] for item in items]
    assert gave == pytest.approx([1.0, np.cos(1.5)], abs=1e-5)
    assert [item[PRIVATE_TAGS["region_answered_key"]]["Value"][0] for item in items] == ["left_lung", "right_lung"]
    assert rows[-1][PRIVATE_TAGS["score"]]["Value"][0] == pytest.approx((3 * gave[0] + gave[1]) / 4, abs=1e-5)


@pytest.mark.parametrize(
    "anatomy", [",", "heart:0", "heart:x", "heart:-1", "heart:nan", "heart:1e-60", "heart:1e9", ",".join(["heart"] * 9)]
)
def test_regions_that_cannot_be_weighed_are_refused(hospital: Web, anatomy: str) -> None:
    assert hospital.get(f"/studies/{uid(0)}/similar?anatomy={anatomy}").status_code == 400


def test_the_patients_other_studies_come_only_when_asked_for(web: Web, images: list[Dataset]) -> None:
    own = radiograph(StudyInstanceUID=uid(8), PatientID="P0")
    web.store(own)
    encode(web, own, at_angle(0))
    assert uid(8) not in found(web, "")
    assert found(web, "samepatient=true")[0] == uid(8)


def test_the_sidebar_gets_the_score_that_the_rows_have(hospital: Web) -> None:
    """Rounded here and again where it is shown, 0.92952 became 0.929 beside the command's 0.930."""
    rows = hospital.get(f"/studies/{uid(0)}/similar").json()
    lines = requests.get(f"{hospital.root}/api/studies/{uid(0)}/similar", timeout=30).text.splitlines()
    cases = [line for line in map(json.loads, lines) if line["type"] == "case"]
    assert [case["score"] for case in cases] == [row[PRIVATE_TAGS["score"]]["Value"][0] for row in rows]


def test_nothing_more_to_answer_is_204(hospital: Web) -> None:
    for query in ("offset=6", "offset=100000", "StudyDate=19000101"):
        answer = hospital.get(f"/studies/{uid(0)}/similar?{query}")
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_deleted_study_is_gone_from_the_next_answer(web: Web, images: list[Dataset]) -> None:
    assert found(web, "limit=1") == uids(1)
    assert web.ask("DELETE", f"/studies/{uid(1)}").status_code == 204
    assert found(web, "limit=1") == uids(2)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/studies/1.2.99/similar", 404, "not_found"),
        ("/studies/1.2.0/similar?anatomy=left elbow", 400, "unknown_region"),
        ("/studies/1.2.0/similar?limit=0", 400, "bad_input"),
        ("/studies/1.2.0/similar?PatientAge=old", 400, "bad_input"),
        ("/studies/1.2.0/similar?StudyDate=old", 400, "bad_input"),
        ("/studies/1.2.0/similar?samepatient=perhaps", 400, "bad_input"),
        ("/studies/1.2.0/similar?anatomy=" + "a" * 5000, 400, "bad_input"),
        ("/studies?similarto=../x", 400, "bad_input"),
        ("/studies?similarto=1.2.0&similarto=1.2.1", 400, "bad_input"),
    ],
)
def test_bad_questions(hospital: Web, path: str, status: int, code: str) -> None:
    answer = hospital.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_finding_typed_beside_the_region_lets_only_those_answer_that_affirm_it(hospital: Web) -> None:
    report_of(hospital, uid(4), "FINDINGS: Consolidation in the left lower lobe.")
    report_of(hospital, uid(1), "FINDINGS: No consolidation in the left lung.")
    answer = hospital.get(f"/studies/{uid(0)}/similar?anatomy=left lung consolidation&limit=1")
    assert [row["0020000D"]["Value"] for row in answer.json()] == [[uid(4)]]
    assert "'consolidation' was read as a finding: only cases" in answer.headers["Warning"]
    same = hospital.get(f"/studies?similarto={uid(0)}&anatomy=left_lung&finding=consolidation")
    assert [row["0020000D"]["Value"] for row in same.json()] == [[uid(4)]]
    none = hospital.get(f"/studies/{uid(0)}/similar?anatomy=right lung consolidation")
    assert (none.status_code, none.content) == (204, b"")
    assert hospital.get(f"/studies/{uid(0)}/similar?finding=nonsense").status_code == 400
    denied = hospital.get(f"/studies/{uid(0)}/similar?anatomy=no consolidation in left lung")
    assert len(denied.json()) == 6
    assert "filters nothing" in denied.headers["Warning"]


def report_of(web: Web, study_uid: str, text: str) -> None:
    findings = findings_to_json(mine(text).findings)
    web.catalogue.reports.add(study_uid, body=text, source="test", findings=findings, parser=PARSER)


def test_an_unknown_region_is_told_the_nearest(hospital: Web) -> None:
    error = hospital.get(f"/studies/{uid(0)}/similar?anatomy=left lover lobe").json()["error"]
    assert "left lower lobe" in error["nearest"]


def test_a_study_that_is_not_encoded_yet_is_503_and_a_skipped_one_409(web: Web) -> None:
    web.store(radiograph(StudyInstanceUID=uid(0)))
    answer = web.get(f"/studies/{uid(0)}/similar")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png"])
def test_other_media_types_are_406(hospital: Web, accept: str) -> None:
    assert hospital.get(f"/studies/{uid(0)}/similar", accept).status_code == 406


def test_rows_as_xml(hospital: Web) -> None:
    answer = hospital.get(f"/studies/{uid(0)}/similar", 'multipart/related; type="application/dicom+xml"')
    assert answer.status_code == 200
    assert answer.content.count(b'privateCreator="RADIR SIMILAR CASES 1"') >= 6


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/dicom;q=0.1, application/json"])
def test_rows_are_the_default(hospital: Web, accept: str) -> None:
    assert len(hospital.get(f"/studies/{uid(0)}/similar", accept).json()) == 6
