"""QIDO-RS at every level: keys, wildcards, ranges, lists, paths, included fields, paging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

from radir_pacs.catalogue import qido_statements
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
MORE = "There are {} additional results that can be requested"


def request_item(step_id: str) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID = step_id
    return item


@pytest.fixture(scope="module")
def hospital(shared_web: Web) -> Web:
    """Three studies: 1.1 (DX, two series of one and two instances), 1.2 (CT) and 1.3 (CR)."""
    adams: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "Adams^Ann=亞當斯^安",
        "PatientID": "A_1",
        "StudyInstanceUID": "1.1",
        "StudyDate": "20240105",
    }
    shared_web.store(
        radiograph(
            **adams,
            SeriesInstanceUID="1.1.1",
            SOPInstanceUID="1.1.1.1",
            SeriesNumber=1,
            StudyTime="080000",
            InstitutionName="North",
            RequestAttributesSequence=[request_item("STEP-7")],
        ),
        radiograph(**adams, SeriesInstanceUID="1.1.2", SOPInstanceUID="1.1.2.1", SeriesNumber=2, InstanceNumber=1),
        radiograph(**adams, SeriesInstanceUID="1.1.2", SOPInstanceUID="1.1.2.2", SeriesNumber=2, InstanceNumber=2),
        radiograph(
            StudyInstanceUID="1.2",
            SeriesInstanceUID="1.2.1",
            SOPInstanceUID="1.2.1.1",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
            Modality="CT",
            PatientName="Baker^Bob",
            PatientID="AX1",
            PatientSex="M",
            StudyDate="20240301",
            StudyTime="140000",
            AccessionNumber="ACC-2",
            PatientBirthDate="19600229",
            StudyDescription="CT chest 100% dose",
        ),
        radiograph(
            StudyInstanceUID="1.3",
            SeriesInstanceUID="1.3.1",
            SOPInstanceUID="1.3.1.1",
            Modality="CR",
            PatientName="Clark^Bo^^Dr",
            PatientID="B2",
            StudyDate="20231231",
            StudyTime="235959.5",
        ),
    )
    return shared_web


def found(web: Web, path: str, tag: str = STUDY) -> list[str]:
    answer = web.get(path, "application/dicom+json")
    assert answer.status_code in (200, 204), answer.text
    if answer.status_code == 204:
        assert answer.content == b""
        return []
    return [row[tag]["Value"][0] for row in answer.json()]


def test_studies_come_newest_first_with_what_the_standard_asks_for(hospital: Web) -> None:
    answer = hospital.get("/studies")
    assert answer.headers["Content-Type"] == "application/dicom+json"
    rows = answer.json()
    assert [row[STUDY]["Value"][0] for row in rows] == ["1.2", "1.1", "1.3"]
    adams = rows[1]
    assert list(adams) == sorted(adams)
    assert adams["00100010"]["Value"] == [{"Alphabetic": "Adams^Ann", "Ideographic": "亞當斯^安"}]
    assert (adams["00201206"]["Value"], adams["00201208"]["Value"]) == ([2], [3])
    assert adams["00081190"]["Value"] == [f"{hospital.base}/studies/1.1"]
    assert adams["00080050"] == {"vr": "SH"}


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("PatientID=A_1", ["1.1"]),  # an underscore is no wildcard
        ("PatientID=A?1", ["1.2", "1.1"]),
        ("PatientID=A*", ["1.2", "1.1"]),
        ("00100020=B2", ["1.3"]),
        ("PatientID=", ["1.2", "1.1", "1.3"]),
        ("PatientID=*", ["1.2", "1.1", "1.3"]),
        ("PatientName=adams^ann", ["1.1"]),
        ("PatientName=Clark^Bo", []),
        ("PatientName=Clark^Bo^^Dr", ["1.3"]),
        ("PatientName=亞當斯*", ["1.1"]),
        ("PatientName=*bo*", ["1.2", "1.3"]),
        ("PatientName=bo&fuzzymatching=true", ["1.2", "1.3"]),
        ("PatientName=ann ada&fuzzymatching=true", ["1.1"]),
        ("StudyDate=20240105", ["1.1"]),
        ("StudyDate=20240101-20240301", ["1.2", "1.1"]),
        ("StudyDate=-20240105", ["1.1", "1.3"]),
        ("StudyDate=20240106-", ["1.2"]),
        ("StudyTime=0800-14", ["1.2", "1.1"]),
        ("StudyTime=2359-", ["1.3"]),
        ("PatientBirthDate=19600229", ["1.2"]),
        ("PatientSex=M", ["1.2"]),
        ("AccessionNumber=ACC-2", ["1.2"]),
        ("StudyDescription=*100%25*", ["1.2"]),
        ("ModalitiesInStudy=CT", ["1.2"]),
        ("ModalitiesInStudy=CT\\CR", ["1.2", "1.3"]),
        ("Modality=CT", ["1.2"]),
        ("StudyInstanceUID=1.1\\1.3", ["1.1", "1.3"]),
        ("StudyInstanceUID=1.1,1.3", ["1.1", "1.3"]),
        ("StudyInstanceUID=1.1&StudyInstanceUID=1.3", ["1.1", "1.3"]),
        ("SeriesInstanceUID=1.1.2", ["1.1"]),
        ("SOPInstanceUID=1.2.1.1", ["1.2"]),
        ("SOPClassesInStudy=1.2.840.10008.5.1.4.1.1.2", ["1.2"]),
        ("NumberOfStudyRelatedInstances=3", ["1.1"]),
        ("SeriesNumber=2", ["1.1"]),
        ("InstitutionName=North", ["1.1"]),
        ("RequestAttributesSequence.ScheduledProcedureStepID=STEP-7", ["1.1"]),
        ("00400275.00400009=STEP-*", ["1.1"]),
        ("00400275.00400009=STEP-8", []),
        ("Rows=32", ["1.2", "1.1", "1.3"]),
        ("BodyPartExamined=CHEST&PatientSex=M", ["1.2"]),
        ("PatientName.Foo=1&nonsense=2&99990010=3&PixelData=4", ["1.2", "1.1", "1.3"]),
        ("PatientID=' OR 1=1 --", []),
    ],
)
def test_matching(hospital: Web, query: str, studies: list[str]) -> None:
    assert found(hospital, f"/studies?{query}") == studies


@pytest.mark.parametrize(
    ("path", "tag", "values"),
    [
        ("/series?Modality=DX", SERIES, ["1.1.1", "1.1.2"]),
        ("/series?PatientID=A_1&SeriesNumber=2", SERIES, ["1.1.2"]),
        ("/series?NumberOfSeriesRelatedInstances=2", SERIES, ["1.1.2"]),
        ("/studies/1.1/series", SERIES, ["1.1.1", "1.1.2"]),
        ("/studies/1.1/series?InstanceNumber=2", SERIES, ["1.1.2"]),
        ("/studies/9.9/series", SERIES, []),
        ("/instances?SOPInstanceUID=1.2.1.1", INSTANCE, ["1.2.1.1"]),
        ("/studies/1.1/instances", INSTANCE, ["1.1.1.1", "1.1.2.1", "1.1.2.2"]),
        ("/studies/1.1/instances?InstanceNumber=2", INSTANCE, ["1.1.2.2"]),
        ("/studies/1.1/series/1.1.2/instances", INSTANCE, ["1.1.2.1", "1.1.2.2"]),
        ("/studies/1.2/series/1.1.2/instances", INSTANCE, []),
    ],
)
def test_levels(hospital: Web, path: str, tag: str, values: list[str]) -> None:
    assert found(hospital, path, tag) == values


def test_rows_below_a_study_name_their_parents(hospital: Web) -> None:
    alone = hospital.get("/instances?SOPInstanceUID=1.1.1.1").json()[0]
    assert alone["00100020"]["Value"] == ["A_1"] and alone["00080060"]["Value"] == ["DX"]
    inside = hospital.get("/studies/1.1/series/1.1.2/instances").json()[0]
    assert inside[STUDY]["Value"] == ["1.1"] and "00100020" not in inside
    assert inside["00081190"]["Value"] == [f"{hospital.base}/studies/1.1/series/1.1.2/instances/1.1.2.1"]


def test_included_fields(hospital: Web) -> None:
    def row(query: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = hospital.get(f"/studies?StudyInstanceUID=1.1&{query}").json()
        return rows[0]

    assert "00101010" not in row("")
    assert row("includefield=PatientAge")["00101010"]["Value"] == ["060Y"]
    assert "00101010" in row("includefield=00100020,PatientAge&includefield=Nonsense")
    assert "00101010" in row("includefield=all")
    assert "00280010" not in row("includefield=all")  # belongs to an instance
    assert row("InstitutionName=North")["00080080"]["Value"] == ["North"]  # a key is a return key
    instance = hospital.get("/studies/1.1/series/1.1.1/instances?includefield=all").json()[0]
    assert instance["00185101"]["Value"] == ["PA"]


def test_private_fields_are_included_by_their_tag(web: Web) -> None:
    ds = radiograph()
    ds.add_new(0x00090010, "LO", "OTHER 1")
    ds.add_new(0x00091001, "DS", "98.41")
    web.store(ds)
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances"
    assert web.get(path + "?includefield=00091001").json()[0]["00091001"] == {"vr": "DS", "Value": [98.41]}
    assert "00091001" not in web.get(path).json()[0]


@pytest.mark.parametrize("typed", ["M\u00fcll*", "Mu\u0308ll*", "m\u00fcll*"])
def test_accents_match_however_they_are_typed(web: Web, typed: str) -> None:
    web.store(radiograph(SpecificCharacterSet="ISO_IR 192", PatientName="M\u00fcller^A"))
    assert len(web.get("/studies", params={"PatientName": typed}).json()) == 1


def test_paging_covers_everything_once_and_says_what_remains(hospital: Web) -> None:
    seen = []
    for offset, more in ((0, 2), (1, 1), (2, 0)):
        answer = hospital.get(f"/studies?limit=1&offset={offset}")
        seen.append(answer.json()[0][STUDY]["Value"][0])
        expected = f"299 {hospital.base}: {MORE.format(more)}" if more else None
        assert answer.headers.get("Warning") == expected
    assert seen == ["1.2", "1.1", "1.3"]
    beyond = hospital.get("/studies?offset=3")
    assert (beyond.status_code, beyond.content) == (204, b"")
    assert hospital.get("/studies?offset=99999999999999").status_code == 204


def test_a_long_list_says_how_many_follow_at_least(hospital: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qido_statements, "COUNTED_MAX", 1)
    answer = hospital.get("/studies?limit=1")
    assert answer.headers["Warning"] == f"299 {hospital.base}: {MORE.format('at least 1')}"
    last = hospital.get("/studies?limit=1&offset=2")
    assert [row[STUDY]["Value"][0] for row in last.json()] == ["1.3"] and "Warning" not in last.headers
    assert hospital.get("/studies?limit=1&offset=3").status_code == 204


def test_no_answer_is_longer_than_the_hard_maximum(serve: Callable[..., Web]) -> None:
    web = serve(qido_limit_max=2)
    web.store(*(radiograph() for _ in range(3)))
    for query in ("", "?limit=1000000"):
        answer = web.get("/studies" + query)
        assert len(answer.json()) == 2
        assert answer.headers["Warning"].endswith(MORE.format(1))


def test_a_long_series_comes_whole(web: Web) -> None:
    """Many clients ask once, without a limit, and take what comes for all there is."""
    parents = {"StudyInstanceUID": "1.9", "SeriesInstanceUID": "1.9.1", "StudyDate": "20240105"}
    uids = [f"1.9.1.{number}" for number in range(1, 261)]
    for number, uid in enumerate(uids, start=1):
        web.store(radiograph(**parents, SOPInstanceUID=uid, InstanceNumber=number))
    for path in ("/studies/1.9/series/1.9.1/instances", "/studies/1.9/instances", "/instances?StudyInstanceUID=1.9"):
        answer = web.get(path)
        assert [row[INSTANCE]["Value"][0] for row in answer.json()] == uids
        assert "Warning" not in answer.headers
    assert len(web.get("/studies/1.9/series/1.9.1/metadata").json()) == 260
    assert len(web.client.search_for_instances("1.9", "1.9.1")) == 260
    assert len(web.client.search_for_instances("1.9", "1.9.1", limit=90, get_remaining=True)) == 260
    last = web.get("/studies/1.9/instances?limit=100&offset=200")
    assert [row[INSTANCE]["Value"][0] for row in last.json()] == uids[200:]


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "limit=1&limit=2",
        "limit=١",
        "offset=1.5",
        "fuzzymatching=maybe",
        "StudyDate=yesterday",
        "StudyDate=2024-01-05",
        "StudyDate=-",
        "StudyDate=20240230",
        "StudyTime=noon",
        "SeriesNumber=two",
        "SeriesNumber=nan",
        "PatientID=a%00b",
        "PatientID=a%0Ab",
        "PatientID=a&PatientID=b",
        "PatientID=" + "a" * 20000,
        "StudyInstanceUID=" + ",".join(["1.2"] * 600),
        "&".join(f"x{n}={n}" for n in range(1000)),
    ],
)
def test_malformed_queries_are_400(hospital: Web, query: str) -> None:
    answer = hospital.get(f"/studies?{query}")
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize("accept", ["application/xml", "text/html", "application/dicom", "*/*;q=0"])
def test_what_cannot_be_produced_is_406(hospital: Web, accept: str) -> None:
    assert hospital.get("/studies", accept).status_code == 406


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/dicom+json;q=0.5, text/html"])
def test_accepted(hospital: Web, accept: str) -> None:
    answer = hospital.get("/studies", accept)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == ("application/json" if "/json" in accept else "application/dicom+json")


@pytest.mark.parametrize("path", ["//studies", "/studies/", "//studies//1.1//series/", "///studies?limit=1"])
def test_slashes_at_the_end_or_twice(hospital: Web, path: str) -> None:
    answer = hospital.get(path, allow_redirects=False)
    assert (answer.status_code, bool(answer.json())) == (200, True)


def test_a_body_survives_doubled_slashes(web: Web) -> None:
    headers = {"Content-Type": "application/dicom"}
    answer = web.ask("POST", "//studies/", data=part10(radiograph()), headers=headers, allow_redirects=False)
    assert answer.status_code == 200


def test_a_plus_in_the_accept_parameter_may_be_bare(hospital: Web) -> None:
    answer = hospital.get("/studies?accept=application/dicom+json", "text/html")
    assert answer.headers["Content-Type"] == "application/dicom+json"


def test_a_dicomweb_client_finds_all_pages(hospital: Web) -> None:
    client = hospital.client
    rows = client.search_for_instances(limit=2, get_remaining=True, fields=["Rows"])
    assert len(rows) == 5
    assert {row["00280010"]["Value"][0] for row in rows} == {32}
    assert client.search_for_studies(search_filters={"PatientName": "nobody"}) == []
