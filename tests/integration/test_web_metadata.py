"""Metadata: every attribute of every kind of object, in JSON and in XML; large values by a URI that can be fetched."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pydicom
import pytest
import requests
from psycopg.types.json import Jsonb
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from radir_pacs.web.dicomweb.native_xml import from_xml
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_web_wado import body_of, parts_of, path_of, ramp, written_as

XML = 'multipart/related; type="application/dicom+xml"'
LONG = bytes(range(256)) * 8


def send(web: Web, body: bytes) -> None:
    answer = requests.post(web.base + "/studies", body, headers={"Content-Type": "application/dicom"}, timeout=30)
    assert answer.status_code == 200, answer.text


def header_of(web: Web, ds: Dataset) -> dict[str, Any]:
    (header,) = web.get(path_of(ds) + "/metadata").json()
    found: dict[str, Any] = header
    return found


def fetched(uri: str) -> bytes:
    answer = requests.get(uri, headers={"Accept": "application/octet-stream"}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.content


def rich(**changes: Any) -> Dataset:
    """Large values at the top, in a sequence in a sequence, in private blocks, and in text."""
    ds = radiograph(**changes)
    inner, outer = Dataset(), Dataset()
    inner.add_new(0x00181078, "DT", "20260102")
    inner.add_new(0x00282000, "OB", LONG)
    outer.add_new(0x00540300, "SQ", [inner])
    ds.add_new(0x00540016, "SQ", [Dataset(), outer])
    ds.add_new(0x00090010, "LO", "OTHER 1")
    ds.add_new(0x00091001, "OW", LONG)
    ds.add_new(0x00091002, "UN", LONG)
    ds.add_new(0x00091003, "OB", LONG[:1024])
    ds.add_new(0x0040A161, "FD", [float(n) for n in range(200)])
    return ds


@pytest.mark.parametrize(
    "syntax", ["", ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid
)
def test_large_values_at_any_depth_can_be_fetched(web: Web, syntax: str) -> None:
    ds = rich(PixelData=ramp().tobytes())
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = ramp().byteswap().tobytes()
    words = ds[0x00091001].value
    if syntax == ExplicitVRBigEndian:
        ds[0x00091001].value = np.frombuffer(words, "<u2").byteswap().tobytes()
    send(web, written_as(ds, syntax) if syntax else part10(ds))
    header = header_of(web, ds)
    inner = header["00540016"]["Value"][1]["00540300"]["Value"][0]
    assert fetched(inner["00282000"]["BulkDataURI"]) == LONG
    assert fetched(header["00091001"]["BulkDataURI"]) == (LONG if syntax != ImplicitVRLittleEndian else words)
    assert fetched(header["00091002"]["BulkDataURI"]) == LONG
    assert base64.b64decode(header["00091003"]["InlineBinary"]) == LONG[:1024]
    assert fetched(header["0040A161"]["BulkDataURI"]) == np.arange(200.0).astype("<f8").tobytes()
    assert fetched(header["7FE00010"]["BulkDataURI"]) == ramp().tobytes()
    (part,) = parts_of(requests.get(inner["00282000"]["BulkDataURI"], timeout=30))
    assert (body_of(part), part["Content-Location"]) == (LONG, inner["00282000"]["BulkDataURI"])


@pytest.mark.parametrize(
    ("asked", "first", "end"), [("bytes=0-9", 0, 10), ("bytes=100-", 100, 2048), ("bytes=-5", 2043, 2048)]
)
def test_a_range_of_a_value(web: Web, asked: str, first: int, end: int) -> None:
    ds = rich()
    web.store(ds)
    uri = header_of(web, ds)["00091001"]["BulkDataURI"]
    answer = requests.get(uri, headers={"Accept": "application/octet-stream", "Range": asked}, timeout=30)
    assert (answer.status_code, answer.content) == (206, LONG[first:end])
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/2048"
    for ignored in ("bytes=5-1", "lines=1-2", "bytes=9999-", "bytes=0-1,3-4"):
        answer = requests.get(uri, headers={"Accept": "application/octet-stream", "Range": ignored}, timeout=30)
        assert (answer.status_code, answer.content) == (200, LONG)


def test_every_attribute_of_the_file_is_named(web: Web) -> None:
    ds = rich()
    web.store(ds)

    def tags(attributes: dict[str, Any]) -> set[str]:
        below = [item for found in attributes.values() if found["vr"] == "SQ" for item in found.get("Value", ())]
        return set(attributes).union(*map(tags, below))

    def tags_of(dataset: Dataset) -> set[str]:
        return {f"{int(element.tag):08X}" for element in dataset.iterall()}

    assert tags(header_of(web, ds)) == tags_of(ds) | {"00080005", "00083002"}


def test_a_client_that_follows_the_uris_gets_the_whole_object(web: Web) -> None:
    ds = rich()
    web.store(ds)
    (header,) = web.client.retrieve_study_metadata(ds.StudyInstanceUID)

    def value(tag: str, vr: str, uri: str) -> Any:
        return np.frombuffer(fetched(uri), "<f8").tolist() if vr == "FD" else fetched(uri)

    made = Dataset.from_json(header, value)
    made.pop(0x00083002)
    made.pop(0x00080005)
    assert made == ds


def test_keys_ascend_and_what_ends_a_sequence_is_none(web: Web) -> None:
    ds = rich()
    send(web, part10(ds) + b"\xfe\xff\xdd\xe0\0\0\0\0")
    header = header_of(web, ds)

    def check(attributes: dict[str, Any]) -> None:
        assert list(attributes) == sorted(attributes)
        assert not any(tag.startswith("FFFE") for tag in attributes)
        for found in attributes.values():
            for item in found.get("Value", ()) if found["vr"] == "SQ" else ():
                check(item)

    check(header)


def test_text_is_utf8_and_says_so(web: Web) -> None:
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 144"
    item.add_new(0x00081070, "PN", "Иванов")
    ds = radiograph(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg", RequestAttributesSequence=[item])
    ds.add_new(0x00104000, "LT", "ü" * 10_000)
    ds.add_new(0x0018A001, "SQ", [])
    ds.add_new(0x00400280, "ST", "kurz")
    ds.add_new(0x0040A160, "UT", "größer als ein Header " * 4000)
    web.store(ds)
    header = header_of(web, ds)
    assert header["00080005"]["Value"] == ["ISO_IR 192"]
    (inner,) = header["00400275"]["Value"]
    assert inner["00080005"]["Value"] == ["ISO_IR 192"]
    assert inner["00081070"]["Value"] == [{"Alphabetic": "Иванов"}]
    assert header["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    assert header["00104000"]["Value"] == ["ü" * 10_000]
    assert fetched(header["0040A160"]["BulkDataURI"]).decode().strip() == ("größer als ein Header " * 4000).strip()
    plain = radiograph()
    web.store(plain)
    assert header_of(web, plain)["00080005"]["Value"] == ["ISO_IR 192"]


def test_an_encapsulated_icon_is_bulk_data_too(web: Web) -> None:
    icon = Dataset()
    icon.Rows = icon.Columns = 8
    icon.PixelData = encapsulate([b"\xff\xd8icon\xff\xd9"])
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", True
    ds = radiograph(PixelData=encapsulate([b"\xff\xd8image\xff\xd9x"]), IconImageSequence=[icon])
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    web.store(ds)
    uri = header_of(web, ds)["00880200"]["Value"][0]["7FE00010"]["BulkDataURI"]
    assert fetched(uri).rstrip(b"\0") == b"\xff\xd8icon\xff\xd9"


def test_headers_stored_before_bulk_data_was_named_are_whole_as_well(web: Web) -> None:
    ds = rich()
    web.store(ds)
    kept = dict(web.catalogue.instances.get(ds.SOPInstanceUID).attributes)
    for tag in ("00091001", "00091002", "0040A161", "7FE00010"):
        del kept[tag]
    with web.catalogue.instances._database.transaction() as connection:
        connection.execute("UPDATE instance SET attributes = %s", [Jsonb(kept)])
    header = header_of(web, ds)
    assert fetched(header["00091001"]["BulkDataURI"]) == LONG
    web.blobs.path(web.catalogue.instances.get(ds.SOPInstanceUID).content_sha256).unlink()
    assert header_of(web, ds)["00100020"]["Value"] == ["TEST-1"]  # what is known stays known


@pytest.mark.parametrize("accept", ["", XML])
def test_no_stored_header_breaks_an_answer(web: Web, accept: str) -> None:
    ds = radiograph()
    web.store(ds)
    odd = {
        "00540220": {"vr": "SQ", "Value": [None, "text", {"00080100": None}, {"00080100": {}}]},
        "00200020": {"vr": "CS", "Value": [None, {}]},
        "00100010": {"vr": "PN", "Value": ["no object", {"Alphabetic": 1}]},
        "99999999": {"vr": "ZZ", "Value": [1]},
        "00080050": "text",
        "00081030": {},
    }
    with web.catalogue.instances._database.transaction() as connection:
        connection.execute("UPDATE instance SET attributes = attributes || %s", [Jsonb(odd)])
    for path in (path_of(ds) + "/metadata", "/instances?includefield=all"):
        answer = web.get(path, accept)
        assert answer.status_code == 200
        assert ds.SOPInstanceUID in answer.text  # and came to its end


def test_functional_groups_beyond_the_limits_of_storing(web: Web) -> None:
    frames = []
    for number in range(3000):
        content, position, frame = Dataset(), Dataset(), Dataset()
        content.FrameAcquisitionNumber, content.FrameComments = number, "x"
        content.TemporalPositionIndex, content.InStackPositionNumber = 1, number + 1
        position.ImagePositionPatient = [0, 0, number]
        frame.FrameContentSequence, frame.PlanePositionSequence = [content], [position]
        frame.CTImageFrameTypeSequence = [Dataset() for _ in range(10)]
        frames.append(frame)
    ds = radiograph(NumberOfFrames=3000, PixelData=b"\0\0" * 3000, Rows=1, Columns=1)
    ds.PerFrameFunctionalGroupsSequence = frames
    web.store(ds)
    found = header_of(web, ds)["52009230"]["Value"]
    assert len(found) == 3000
    assert found[-1]["00209113"]["Value"][0]["00200032"]["Value"] == [0, 0, 2999]


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("00100020", 200),
        ("00540016/2/00540300/1/00282000", 200),
        ("00540016/2/00540300/9/00282000", 404),
        ("00540016/0/00540300/1/00282000", 400),
        ("00540016/2/00540300", 404),
        ("00540016", 404),
        ("00091099", 404),
        ("00540016/2", 400),
        ("..%2f..%2fetc", 400),
        ("PixelData", 400),
        ("00091001/1/" * 3000 + "00091001", 404),
    ],
)
def test_paths_to_bulk_data_are_checked(web: Web, where: str, status: int) -> None:
    ds = rich()
    web.store(ds)
    assert web.get(f"{path_of(ds)}/bulkdata/{where}").status_code == status


@pytest.mark.parametrize("accept", [XML, "application/dicom+xml", "application/dicom+xml, */*;q=0.1"])
def test_metadata_as_xml_says_the_same_as_json(web: Web, accept: str) -> None:
    ds = rich(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg^^Dr=山田^太郎", WindowCenter=["40", "-600.5"])
    ds.add_new(0x00081110, "SQ", [])
    ds.add_new(0x00204000, "LT", "form\ffeed & <tags>")
    other = radiograph(StudyInstanceUID=ds.StudyInstanceUID)
    web.store(ds, other)
    path = f"/studies/{ds.StudyInstanceUID}/metadata"
    answer = web.get(path, accept)
    assert answer.headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"')
    parts = parts_of(answer)
    assert {part["Content-Type"] for part in parts} == {"application/dicom+xml"}
    by_uid = {found["00080018"]["Value"][0]: found for found in (from_xml(body_of(part)) for part in parts)}
    expected = {found["00080018"]["Value"][0]: found for found in web.get(path).json()}
    expected[ds.SOPInstanceUID]["00204000"]["Value"] = ["form feed & <tags>"]
    assert by_uid == expected
    root = ET.fromstring(body_of(parts[0]))
    assert root.tag == "{http://dicom.nema.org/PS3.19/models/NativeDICOM}NativeDicomModel"


def test_private_attributes_name_their_creator_in_xml(web: Web) -> None:
    ds = rich()
    web.store(ds)
    (part,) = parts_of(web.get(path_of(ds) + "/metadata", XML))
    assert b'<DicomAttribute tag="00091003" vr="OB" privateCreator="OTHER 1"><InlineBinary>' in body_of(part)
    assert pydicom.dcmread(BytesIO(part10(ds)))[0x00091003].value == LONG[:1024]


def test_search_results_as_xml(web: Web) -> None:
    web.store(radiograph(StudyInstanceUID="1.7"), radiograph(StudyInstanceUID="1.8"))
    for path, tag in (("/studies", "0020000D"), ("/series", "0020000E"), ("/instances?includefield=all", "00080018")):
        parts = parts_of(web.get(path, XML))
        found = [from_xml(body_of(part))[tag] for part in parts]
        assert found == [row[tag] for row in web.get(path).json()]
    assert web.get("/studies?StudyInstanceUID=1.99", XML).status_code == 204
