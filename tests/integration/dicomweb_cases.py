"""What a DICOMweb service must do, as cases that run against any service root.

Restated from PS3.18 and from what public conformance suites and Orthanc's own tests look at, in our own words. A case
is a function that raises when the service does otherwise. Where a suite asks for what the standard does not have
(``/patients``, ``/instances/{uid}``) there is no case.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pydicom
import requests
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from tests.dicom_files import radiograph

ELE = "1.2.840.10008.1.2.1"
JSON, XML, DICOM = "application/dicom+json", "application/dicom+xml", "application/dicom"
OCTETS = "application/octet-stream"
PARTS = 'multipart/related; type="application/dicom"; boundary=x'
LONG = bytes(range(256)) * 16
NAME = "Müller^Jörg"


def written(ds: Dataset) -> bytes:
    with BytesIO() as file:
        little = ds.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
        pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=little, enforce_file_format=True)
        return file.getvalue()


def _material() -> dict[str, Dataset]:
    pixels = np.arange(3 * 32 * 32, dtype=np.uint16).reshape(3, 32, 32) % 4096
    study = {"StudyInstanceUID": "1.2.77.1", "PatientName": NAME, "SpecificCharacterSet": "ISO_IR 100"}
    item = Dataset()
    item.add_new(0x00091001, "OB", LONG)
    item.add_new(0x00090010, "LO", "OTHER 1")
    one = radiograph(**study, SeriesInstanceUID="1.2.77.1.1", SOPInstanceUID="1.2.77.1.1.1", InstanceNumber=1)
    one.add_new(0x00090010, "LO", "OTHER 1")
    one.add_new(0x00091001, "OB", LONG)
    one.RequestAttributesSequence = [Dataset(), item]
    one.AccessionNumber, one.StudyDescription, one.EchoTrainLength = "", "Chest PA", 10
    frames = radiograph(
        **study, SeriesInstanceUID="1.2.77.1.2", SOPInstanceUID="1.2.77.1.2.1", NumberOfFrames=3,
        PixelData=pixels.tobytes(), Modality="CT", AccessionNumber="",
    )  # fmt: skip
    rle = radiograph(StudyInstanceUID="1.2.77.2", SeriesInstanceUID="1.2.77.2.1", SOPInstanceUID="1.2.77.2.1.1")
    rle.compress(RLELossless, generate_instance_uid=False)
    big = radiograph(StudyInstanceUID="1.2.77.3", SeriesInstanceUID="1.2.77.3.1", SOPInstanceUID="1.2.77.3.1.1")
    big.PixelData = np.frombuffer(big.PixelData, "<u2").byteswap().tobytes()
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return {"one": one, "frames": frames, "rle": rle, "big": big}


@dataclass(frozen=True, kw_only=True)
class Service:
    """The service under test, with the instances stored in it."""

    root: str  # DICOMweb service root
    wado: str  # WADO-URI
    material: dict[str, Dataset] = field(default_factory=_material)

    def ask(self, method: str, path: str, accept: str = "", **options: Any) -> requests.Response:
        headers = {"Accept": accept or None} | options.pop("headers", {})
        return requests.request(method, self.root + path, headers=headers, timeout=30, **options)

    def get(self, path: str, accept: str = "", **options: Any) -> requests.Response:
        return self.ask("GET", path, accept, **options)

    def post(self, body: bytes, content_type: str = DICOM, path: str = "/studies", **headers: str) -> requests.Response:
        return self.ask("POST", path, JSON, data=body, headers={"Content-Type": content_type} | headers)

    def path(self, name: str) -> str:
        ds = self.material[name]
        return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"

    def store_material(self) -> None:
        for ds in self.material.values():
            bodies = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written(ds) + b"\r\n--x--\r\n"
            answer = self.post(bodies, PARTS)
            assert answer.status_code == 200, answer.text


Check = Callable[[Service], None]
CASES: dict[str, Check] = {}


def case(check: Check) -> Check:
    CASES[check.__name__] = check
    return check


def ok(answer: requests.Response, *statuses: int) -> requests.Response:
    assert answer.status_code in (statuses or (200,)), (answer.status_code, answer.text[:200])
    return answer


def rows(answer: requests.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(answer).json()
    assert isinstance(found, list)
    return found


def parts(answer: requests.Response) -> list[Any]:
    ok(answer, 200, 206)
    assert answer.headers["Content-Type"].startswith("multipart/related")
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    return list(message_from_bytes(head + answer.content).get_payload())


def body(part: Any) -> bytes:
    found: bytes = part.get_payload(decode=True)
    return found


def syntax(data: bytes) -> str:
    return str(pydicom.dcmread(BytesIO(data)).file_meta.TransferSyntaxUID)


def nothing(answer: requests.Response) -> None:
    """No match: 204, as in the standard, or the empty array of its earlier editions."""
    assert answer.status_code == 204 or rows(answer) == []


# Searches


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
def unknown_parameters_are_ignored(s: Service) -> None:
    for query in ("InvalidParam=x&AnotherInvalid=y", "PATIENTID=12345", "fuzzymatching=true"):
        assert len(rows(s.get(f"/studies?{query}"))) == 3, query


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


# Metadata


@case
def metadata_at_every_level(s: Service) -> None:
    for path, count in ((s.path("one"), 1), ("/studies/1.2.77.1/series/1.2.77.1.1", 1), ("/studies/1.2.77.1", 2)):
        answer = s.get(path + "/metadata")
        assert answer.headers["Content-Type"].startswith(JSON) and len(rows(answer)) == count


@case
def metadata_names_the_instance(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    assert (row["00080018"]["Value"], row["0020000D"]["Value"]) == (["1.2.77.1.1.1"], ["1.2.77.1"])
    assert row["00080020"]["Value"] == ["20260102"]


@case
def metadata_text_is_utf8(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    assert row["00100010"]["Value"] == [{"Alphabetic": NAME}] and row["00080005"]["Value"] == ["ISO_IR 192"]


@case
def metadata_keys_ascend(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    assert list(row) == sorted(row) and not any(tag.startswith("FFFE") for tag in row)


@case
def pixel_data_are_a_uri(s: Service) -> None:
    pixels = rows(s.get(s.path("one") + "/metadata"))[0]["7FE00010"]
    assert "BulkDataURI" in pixels and "Value" not in pixels and "InlineBinary" not in pixels


@case
def large_values_can_be_fetched(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    for found in (row["00091001"], row["00400275"]["Value"][1]["00091001"]):
        if "InlineBinary" in found:
            continue
        answer = requests.get(found["BulkDataURI"], timeout=30)
        assert body(parts(answer)[0]) == LONG


@case
def metadata_as_xml(s: Service) -> None:
    (part,) = parts(s.get(s.path("one") + "/metadata", f'multipart/related; type="{XML}"'))
    assert 'vr="PN"' in body(part).decode() and "Jörg" in body(part).decode()


@case
def lists_of_media_types_are_read(s: Service) -> None:
    for accept in (
        "application/json",
        "application/json, application/dicom+json",
        "toto, application/dicom+json",
        "application/json, tata",
        f"application/json, {XML}",
        "*/*",
        "application/*",
        "image/webp, */*;q=0.8, text/html, application/xhtml+xml, application/xml;q=0.9",
        "text/html, image/gif, image/jpeg, */*; q=.2, */*; q=.2",
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "text/html, application/xhtml+xml, application/xml;q=0.9, image/webp, */*;q=0.8",
    ):
        assert len(rows(s.get("/studies/1.2.77.1/metadata", accept))) == 2, accept


@case
def what_cannot_be_made_is_refused(s: Service) -> None:
    for accept in ("application/nope", "toto, tata", 'multipart/related; type="application/nope"', "image/png"):
        ok(s.get("/studies/1.2.77.1/metadata", accept), 400, 406)


@case
def what_is_not_there_is_404(s: Service) -> None:
    for path in ("/studies/1.2.3", "/studies/1.2.77.1/series/1.2.3", s.path("one").replace("1.2.77.1.1.1", "1.2.3")):
        ok(s.get(path + "/metadata"), 404)
    ok(s.get("/studies/1.2.77.2/series/1.2.77.1.1/instances/1.2.77.1.1.1/metadata"), 404)
    ok(s.get("/bulkdata/test"), 404)


@case
def malformed_paths_are_refused(s: Service) -> None:
    for path in ("/studies/invalid/endpoint/metadata", "/studies/nope/metadata"):
        ok(s.get(path), 400, 404)


# Instances


@case
def an_instance_is_what_was_stored(s: Service) -> None:
    (part,) = parts(s.get(s.path("one"), f'multipart/related; type="{DICOM}"'))
    assert pydicom.dcmread(BytesIO(body(part))) == pydicom.dcmread(BytesIO(written(s.material["one"])))
    assert "Content-Type" in part


@case
def an_instance_alone(s: Service) -> None:
    answer = ok(s.get(s.path("one"), DICOM))
    assert answer.headers["Content-Type"].startswith(DICOM)
    assert pydicom.dcmread(BytesIO(answer.content)).SOPInstanceUID == "1.2.77.1.1.1"


@case
def a_study_and_a_series(s: Service) -> None:
    assert len(parts(s.get("/studies/1.2.77.1"))) == 2
    assert len(parts(s.get("/studies/1.2.77.1/series/1.2.77.1.1"))) == 1


@case
def explicit_little_endian_where_nothing_is_named(s: Service) -> None:
    for name in ("rle", "big"):
        for accept in (
            "",
            "multipart/related",
            f"multipart/related; type={DICOM}",
            f'multipart/related; type="{DICOM}"',
        ):
            assert syntax(body(parts(s.get(s.path(name), accept))[0])) == ELE, (name, accept)


@case
def any_syntax_is_as_stored(s: Service) -> None:
    accept = f"multipart/related; type={DICOM}; transfer-syntax=*"
    assert syntax(body(parts(s.get(s.path("rle"), accept))[0])) == RLELossless


@case
def any_syntax_is_never_big_endian(s: Service) -> None:
    accept = f"multipart/related; type={DICOM}; transfer-syntax=*"
    assert syntax(body(parts(s.get(s.path("big"), accept))[0])) == ELE


@case
def a_syntax_by_name(s: Service) -> None:
    accept = f"multipart/related; type={DICOM}; transfer-syntax="
    assert syntax(body(parts(s.get(s.path("rle"), accept + RLELossless))[0])) == RLELossless
    ok(s.get(s.path("rle"), accept + "nope"), 400, 406)


@case
def other_parts_are_refused(s: Service) -> None:
    for accept in ("multipart/nope", "multipart/related; type=application/nope", "nope"):
        ok(s.get("/studies/1.2.77.1", accept), 400, 406)


@case
def any_multipart_is_multipart_related(s: Service) -> None:
    assert len(parts(s.get("/studies/1.2.77.1", "multipart/*"))) == 2


# Frames


@case
def frames_by_number(s: Service) -> None:
    pixels = s.material["frames"].pixel_array
    found = parts(s.get(s.path("frames") + "/frames/3,1"))
    assert [body(part) for part in found] == [pixels[2].tobytes(), pixels[0].tobytes()]


@case
def frames_with_and_without_quotes(s: Service) -> None:
    for accept in (f"multipart/related; type={OCTETS}", f'multipart/related; type="{OCTETS}"'):
        assert len(body(parts(s.get(s.path("frames") + "/frames/1", accept))[0])) == 2048


@case
def frames_beyond_the_last_are_refused(s: Service) -> None:
    for number in (0, 4, "x"):
        ok(s.get(f"{s.path('frames')}/frames/{number}"), 400, 404)
    ok(s.get(s.path("frames") + "/frames/1", "multipart/related; type=nope"), 400, 406)


@case
def frames_are_little_endian(s: Service) -> None:
    expected = np.frombuffer(s.material["big"].PixelData, ">u2").astype("<u2").tobytes()
    assert body(parts(s.get(s.path("big") + "/frames/1"))[0]) == expected


@case
def compressed_frames_are_decoded_by_default(s: Service) -> None:
    assert body(parts(s.get(s.path("rle") + "/frames/1"))[0]) == s.material["rle"].pixel_array.tobytes()


@case
def compressed_frames_by_their_old_name(s: Service) -> None:
    for named in ("image/dicom-rle", "image/x-dicom-rle"):
        (part,) = parts(
            s.get(s.path("rle") + "/frames/1", f'multipart/related; type="{named}"; transfer-syntax={RLELossless}')
        )
        assert part["Content-Type"].startswith("image/") and len(body(part)) < 2048


# Rendered, and WADO-URI


@case
def rendered_at_every_level(s: Service) -> None:
    for path in (s.path("one"), "/studies/1.2.77.1/series/1.2.77.1.1", "/studies/1.2.77.1"):
        for accept, form in (("image/png", "PNG"), ("image/jpeg", "JPEG")):
            assert Image.open(BytesIO(ok(s.get(path + "/rendered", accept)).content)).format == form, path


@case
def rendered_frames(s: Service) -> None:
    for number in (1, 3):
        picture = Image.open(BytesIO(ok(s.get(f"{s.path('frames')}/frames/{number}/rendered", "image/png")).content))
        assert (picture.mode, picture.size) == ("L", (32, 32))
    ok(s.get(s.path("frames") + "/frames/4/rendered"), 400, 404)


@case
def rendered_in_a_window(s: Service) -> None:
    answer = ok(s.get(s.path("frames") + "/frames/1/rendered?window=512,1024,linear", "image/png"))
    shades = np.asarray(Image.open(BytesIO(answer.content)), dtype=float)
    assert abs(shades[0, 0]) <= 1 and abs(shades[16, 0] - 127.6) <= 2 and abs(shades[31, 31] - 255) <= 1


def _uri(s: Service, query: str, name: str = "one") -> requests.Response:
    uids = "objectUID=" + s.material[name].SOPInstanceUID
    return requests.get(f"{s.wado}?{query}&{uids}", timeout=30)


@case
def wado_uri_gives_the_object(s: Service) -> None:
    for more in ("", "&seriesUID=1.2.77.1.1", "&seriesUID=1.2.77.1.1&studyUID=1.2.77.1"):
        answer = ok(_uri(s, f"requestType=WADO&contentType={DICOM}{more}"))
        assert pydicom.dcmread(BytesIO(answer.content)).SOPInstanceUID == "1.2.77.1.1.1"


@case
def wado_uri_gives_pictures(s: Service) -> None:
    for content_type, form in (("", "JPEG"), ("image/jpeg", "JPEG"), ("image/jpg", "JPEG"), ("image/png", "PNG")):
        query = "requestType=WADO" + (f"&contentType={content_type}" if content_type else "")
        picture = Image.open(BytesIO(ok(_uri(s, query)).content))
        assert (picture.format, picture.mode, picture.size) == (form, "L", (32, 32))


@case
def wado_uri_refuses_what_is_wrong(s: Service) -> None:
    for query in ("", "requestType=WADO&seriesUID=1.2.3", "requestType=WADO&studyUID=nope"):
        ok(_uri(s, query), 400, 404)
    ok(requests.get(f"{s.wado}?requestType=WADO", timeout=30), 400, 404)


# Storing


@case
def storing_again_changes_nothing(s: Service) -> None:
    ds = s.material["one"]
    data = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written(ds) + b"\r\n--x--\r\n"
    answer = ok(s.post(data, PARTS)).json()
    assert answer["00081190"]["Value"][0].endswith("/studies/1.2.77.1")
    (stored,) = answer["00081199"]["Value"]
    assert stored["00081155"]["Value"] == [ds.SOPInstanceUID]
    assert stored["00081190"]["Value"][0].endswith(s.path("one"))
    assert "Value" not in answer.get("00081198", {})
    assert len(rows(s.get("/studies/1.2.77.1/instances"))) == 2


@case
def one_object_may_be_the_body(s: Service) -> None:
    ok(s.post(written(s.material["one"])))


@case
def the_wrong_study_in_the_path_is_a_failure_with_both_uids(s: Service) -> None:
    data = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written(s.material["one"]) + b"\r\n--x--\r\n"
    answer = ok(s.post(data, PARTS, "/studies/1.2.3"), 409).json()
    (failed,) = answer["00081198"]["Value"]
    assert (
        failed["00081155"]["Value"] == ["1.2.77.1.1.1"] and failed["00081150"]["Value"] and failed["00081197"]["Value"]
    )


@case
def what_is_no_dicom_is_refused(s: Service) -> None:
    for data in (b"This is not a valid DICOM file", b"DICM" + b"corrupted" * 100):
        ok(s.post(data), 400, 409)
    ok(s.post(b""), 400)


@case
def other_media_types_are_refused(s: Service) -> None:
    ok(s.post(b"plain text", "text/plain"), 400, 415)
    ok(s.post(b"--x--", "multipart/form-data; boundary=x"), 400, 415)


@case
def metadata_is_stored(s: Service) -> None:
    ds = radiograph(StudyInstanceUID="1.2.77.9")
    header = json.loads(ds.to_json(bulk_data_threshold=100, bulk_data_element_handler=lambda _: "pixels"))
    data = (
        b"--x\r\nContent-Type: application/dicom+json\r\n\r\n" + json.dumps([header]).encode() + b"\r\n"
        b"--x\r\nContent-Type: application/octet-stream\r\nContent-Location: pixels\r\n\r\n"
        + ds.PixelData
        + b"\r\n--x--\r\n"
    )
    ok(s.post(data, f'multipart/related; type="{JSON}"; boundary=x'))
    path = f"/studies/1.2.77.9/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    try:
        assert body(parts(s.get(path + "/frames/1"))[0]) == ds.PixelData
    finally:
        s.ask("DELETE", "/studies/1.2.77.9")


@case
def methods_that_are_not_there_say_which_are(s: Service) -> None:
    for method in ("PUT", "DELETE"):
        answer = ok(s.ask(method, "/studies"), 405)
        assert {"GET", "POST"} <= {name.strip() for name in answer.headers["Allow"].split(",")}


@case
def studies_series_and_instances_are_deleted(s: Service) -> None:
    uid = "1.2.77.8"
    made = [radiograph(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.{n // 2}") for n in range(4)]
    for ds in made:
        data = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written(ds) + b"\r\n--x--\r\n"
        ok(s.post(data, PARTS))
    ok(s.ask("DELETE", f"/studies/{uid}/series/{uid}.0/instances/{made[0].SOPInstanceUID}"), 200, 204)
    assert len(rows(s.get(f"/studies/{uid}/instances"))) == 3
    ok(s.ask("DELETE", f"/studies/{uid}/series/{uid}.1"), 200, 204)
    assert len(rows(s.get(f"/studies/{uid}/instances"))) == 1
    ok(s.ask("DELETE", f"/studies/{uid}"), 200, 204)
    nothing(s.get(f"/studies?StudyInstanceUID={uid}"))


# The service as a whole


@case
def a_root_with_a_slash_at_its_end(s: Service) -> None:
    assert len(rows(s.get("//studies", allow_redirects=False))) == 3
    assert len(rows(s.get("/studies/", allow_redirects=False))) == 3


@case
def the_service_describes_itself(s: Service) -> None:
    answer = ok(s.ask("OPTIONS", "/"))
    assert ET.fromstring(answer.content).tag.endswith("application")


@case
def text_is_compressed_when_asked_so(s: Service) -> None:
    headers = {"Accept-Encoding": "gzip"}
    answer = ok(s.get("/studies/1.2.77.1/metadata", headers=headers))
    assert answer.headers.get("Content-Encoding") == "gzip"


@case
def urls_in_answers_can_be_followed(s: Service) -> None:
    row = rows(s.get("/instances?SOPInstanceUID=1.2.77.1.1.1"))[0]
    assert len(parts(requests.get(row["00081190"]["Value"][0], timeout=30))) == 1
