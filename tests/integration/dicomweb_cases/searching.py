"""Searches by QIDO-RS, PS3.18 10.6."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from .service import JSON, NAME, XML, Service, body, case, nothing, ok, parts, rows


@case
def studies_are_dicom_json(s: Service) -> None:
    answer = s.get("/studies")
    assert answer.headers["Content-Type"].startswith(JSON)
    assert len(rows(answer)) == 3


@case
def every_level_is_searched(s: Service) -> None:
    study = "/studies/1.2.77.1"
    for path, count in (("/series", 4), ("/instances", 4), (study + "/series", 2), (study + "/instances", 2)):
        assert len(rows(s.get(path))) == count, path
    assert len(rows(s.get(study + "/series/1.2.77.1.2/instances"))) == 1


@case
def rows_have_the_attributes_of_their_level(s: Service) -> None:
    study = rows(s.get("/studies?StudyInstanceUID=1.2.77.1"))[0]
    assert {"00080020", "00100010", "00100020", "0020000D", "00201206", "00201208"} <= study.keys()
    assert "0020000E" not in study and "00080018" not in study
    series = rows(s.get("/series?SeriesInstanceUID=1.2.77.1.2"))[0]
    assert series["00080060"]["Value"] == ["CT"] and "00080018" not in series and "00100010" in series
    instance = rows(s.get("/instances?SOPInstanceUID=1.2.77.1.2.1"))[0]
    assert instance["00280010"]["Value"] == [32] and instance["00280100"]["Value"] == [16] and "00100010" in instance


@case
def names_match_by_wildcard_in_any_case(s: Service) -> None:
    for name in ("Müller*", "müller*", "MÜLLER^J?rg", "*jörg"):
        assert [row["0020000D"]["Value"] for row in rows(s.get("/studies", params={"PatientName": name}))] == [
            ["1.2.77.1"]
        ]


@case
def keys_by_keyword_and_by_tag(s: Service) -> None:
    for key in ("StudyDescription=Chest PA", "00081030=Chest PA", "ModalitiesInStudy=CT", "0020000D=1.2.77.1"):
        assert len(rows(s.get(f"/studies?{key}"))) == 1, key


@case
def lists_of_uids_match(s: Service) -> None:
    for joined in ("1.2.77.1,1.2.77.2", "1.2.77.1\\1.2.77.2"):
        assert len(rows(s.get("/studies", params={"StudyInstanceUID": joined}))) == 2


@case
def date_ranges_match(s: Service) -> None:
    assert len(rows(s.get("/studies?StudyDate=20260101-20260131"))) == 3
    assert len(rows(s.get("/studies?StudyDate=20260101-"))) == 3
    nothing(s.get("/studies?StudyDate=-20251231"))


@case
def no_match_is_an_empty_answer(s: Service) -> None:
    nothing(s.get("/studies?PatientID=NONEXISTENT123"))
    nothing(s.get("/studies?PatientID=1&StudyInstanceUID=1.2.3.4"))


@case
def unknown_parameters_are_ignored_and_named(s: Service) -> None:
    for query, named in (
        ("InvalidParam=x&AnotherInvalid=y", ["InvalidParam", "AnotherInvalid"]),
        ("PATIENTID=12345", ["PATIENTID"]),
        ("PixelData=1", ["PixelData"]),
        ("fuzzymatching=true", []),
        ("Invalid%20Param%0d%0a=x", []),
    ):
        answer = s.get(f"/studies?{query}")
        assert len(rows(answer)) == 3, query
        warnings = answer.headers.get("Warning", "")
        assert warnings.endswith(f"not keys to search by: {', '.join(named)}") if named else warnings == "", query
    assert "search by: PATIENTID" in s.get("/studies?PATIENTID=1&PatientID=NONEXISTENT").headers["Warning"]
    many = s.get("/studies?" + "&".join(f"Unknown{number}=x" for number in range(150)))
    assert len(rows(many)) == 3 and many.headers["Warning"].endswith("Unknown8, Unknown9 and others")


@case
def pages_cover_everything_once(s: Service) -> None:
    seen = [rows(s.get(f"/studies?limit=1&offset={at}"))[0]["0020000D"]["Value"][0] for at in range(3)]
    assert sorted(seen) == ["1.2.77.1", "1.2.77.2", "1.2.77.3"]
    nothing(s.get("/studies?offset=10"))


@case
def fields_are_included_when_asked_for(s: Service) -> None:
    path = "/studies/1.2.77.1/series/1.2.77.1.1/instances"
    assert "00180091" not in rows(s.get(path))[0]
    for asked in ("EchoTrainLength", "00180091", "PatientID,EchoTrainLength", "all"):
        assert rows(s.get(f"{path}?includefield={asked}"))[0]["00180091"]["Value"] == [10], asked
    assert "00091001" not in rows(s.get(path))[0]


@case
def empty_values_have_no_value(s: Service) -> None:
    assert rows(s.get("/studies?StudyInstanceUID=1.2.77.1"))[0]["00080050"] == {"vr": "SH"}
    assert rows(s.get(s.path("one") + "/metadata"))[0]["00080050"] == {"vr": "SH"}


@case
def numbers_are_numbers(s: Service) -> None:
    assert rows(s.get("/studies?StudyInstanceUID=1.2.77.1"))[0]["00201208"] == {"vr": "IS", "Value": [2]}
    assert rows(s.get(s.path("one") + "/metadata"))[0]["00180091"] == {"vr": "IS", "Value": [10]}


@case
def text_is_utf8_in_searches(s: Service) -> None:
    row = rows(s.get("/studies?StudyInstanceUID=1.2.77.1"))[0]
    assert row["00080005"]["Value"] == ["ISO_IR 192"] and row["00100010"]["Value"] == [{"Alphabetic": NAME}]


@case
def malformed_searches_are_400(s: Service) -> None:
    for query in ("limit=x", "limit=-1", "StudyDate=yesterday"):
        ok(s.get(f"/studies?{query}"), 400)


@case
def searches_as_xml(s: Service) -> None:
    for accept in (f'multipart/related; type="{XML}"', f"multipart/related; type={XML}", XML):
        found = parts(s.get("/studies", accept))
        assert len(found) == 3
        assert {part["Content-Type"] for part in found} == {XML}
        assert all(ET.fromstring(body(part)).tag.endswith("NativeDicomModel") for part in found)


@case
def the_plus_of_a_query_may_be_bare(s: Service) -> None:
    for written_as in ("application/dicom+json", "application%2Fdicom%2Bjson"):
        assert len(rows(s.get(f"/studies?accept={written_as}", "text/html"))) == 3
