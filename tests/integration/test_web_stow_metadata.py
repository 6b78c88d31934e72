"""STOW of metadata, in JSON or XML, with bulk data in parts of their own (PS3.18 10.5.1.1)."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, RLELossless

from radir_pacs.web.dicomweb.native_xml import to_xml
from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_metadata import rich
from tests.integration.test_web_stow import FAILED, STORED, reasons
from tests.integration.test_web_wado import path_of, ramp

JSON_TYPE, XML_TYPE, OCTETS = "application/dicom+json", "application/dicom+xml", "application/octet-stream"
ELE = "1.2.840.10008.1.2.1"


def send(web: Web, kind: str, *parts: tuple[str, str, bytes]) -> requests.Response:
    """Parts as (Content-Type, Content-Location, body)."""
    body = b"".join(
        f"--x\r\nContent-Type: {sent_as}\r\nContent-Location: {place}\r\n\r\n".encode() + data + b"\r\n"
        for sent_as, place, data in parts
    )
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=x'}
    return requests.post(web.base + "/studies", body + b"--x--\r\n", headers=headers, timeout=30)


def described(ds: Dataset, places: dict[str, bytes]) -> dict[str, Any]:
    """``ds`` in the JSON model, what is longer than 100 bytes put into ``places``."""

    def elsewhere(element: Any) -> str:
        place = f"http://sender/{ds.SOPInstanceUID}/{element.tag:08X}"
        places[place] = element.value
        return place

    found: dict[str, Any] = ds.to_json_dict(bulk_data_threshold=100, bulk_data_element_handler=elsewhere)
    return found


def stored(web: Web, ds: Dataset) -> Dataset:
    kept = web.catalogue.instances.get(ds.SOPInstanceUID)
    return pydicom.dcmread(web.blobs.path(kept.content_sha256))


@pytest.mark.parametrize("kind", [JSON_TYPE, XML_TYPE])
def test_what_is_described_is_stored_whole(web: Web, kind: str) -> None:
    one, two = rich(PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 192"), radiograph()
    places: dict[str, bytes] = {}
    headers = [described(ds, places) for ds in (one, two)]
    if kind == XML_TYPE:
        metadata = [(XML_TYPE, "", to_xml(header)) for header in headers]
    else:
        metadata = [(JSON_TYPE, "", json.dumps(headers).encode())]
    answer = send(web, kind, *metadata, *((OCTETS, place, data) for place, data in places.items()))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()[STORED]["Value"]) == 2
    for ds in (one, two):
        found = stored(web, ds)
        assert found.file_meta.TransferSyntaxUID == ELE
        np.testing.assert_array_equal(found.pixel_array, ds.pixel_array)
        ds.SpecificCharacterSet, ds["PixelData"].VR = "ISO_IR 192", "OW"
        assert found == ds


@pytest.mark.parametrize(
    ("syntax", "sent_as"),
    [
        (RLELossless, "image/dicom-rle"),
        (RLELossless, f"image/x-dicom-rle; transfer-syntax={RLELossless}"),
        (JPEG2000Lossless, "image/jp2"),
        (JPEG2000Lossless, f"application/octet-stream; transfer-syntax={JPEG2000Lossless}"),
    ],
)
def test_compressed_frames_stay_compressed(web: Web, syntax: str, sent_as: str) -> None:
    ds = radiograph(NumberOfFrames=3, PixelData=ramp(3).tobytes())
    ds.compress(syntax)
    header = json.loads(ds.to_json(bulk_data_threshold=10, bulk_data_element_handler=lambda _: "frames"))
    frames = generate_frames(ds.PixelData, number_of_frames=3)
    answer = send(
        web, JSON_TYPE, (JSON_TYPE, "", json.dumps(header).encode()), *((sent_as, "frames", f) for f in frames)
    )
    assert answer.status_code == 200, answer.text
    found = stored(web, ds)
    assert found.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(found.pixel_array, ramp(3))
    assert web.get(path_of(ds) + "/frames/3", "application/octet-stream").content == ramp(3)[2].tobytes()


def test_our_own_metadata_comes_back_as_the_same_object(web: Web) -> None:
    """Metadata and bulk data as we answer them, sent on to where the study is not."""
    ds = rich()
    web.store(ds)
    header = web.get(path_of(ds) + "/metadata").json()

    def uris(found: Any) -> list[str]:
        if isinstance(found, list):
            return [uri for item in found for uri in uris(item)]
        if not isinstance(found, dict):
            return []
        return [uri for name, value in found.items() for uri in ([value] if name == "BulkDataURI" else uris(value))]

    bulk = [(OCTETS, uri, requests.get(uri, headers={"Accept": OCTETS}, timeout=30).content) for uri in uris(header)]
    assert len(bulk) == 5
    assert web.ask("DELETE", f"/studies/{ds.StudyInstanceUID}").status_code == 204
    answer = send(web, JSON_TYPE, (JSON_TYPE, "", json.dumps(header).encode()), *bulk)
    assert answer.status_code == 200, answer.text
    ds.SpecificCharacterSet = "ISO_IR 192"
    assert stored(web, ds) == ds


def test_metadata_alone_may_be_the_whole_body(web: Web) -> None:
    ds = radiograph()
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(ds, keyword)
    for kind, body in ((JSON_TYPE, ds.to_json().encode()), (XML_TYPE, to_xml(ds.to_json_dict()))):
        answer = requests.post(f"{web.base}/studies", body, headers={"Content-Type": kind}, timeout=30)
        assert answer.status_code == 200, answer.text
    assert stored(web, ds).PatientID == "TEST-1"


def test_pixels_may_stand_inline(web: Web) -> None:
    ds = radiograph()
    answer = send(web, JSON_TYPE, (JSON_TYPE, "", ds.to_json().encode()))
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(stored(web, ds).pixel_array, ds.pixel_array)


def test_what_cannot_be_kept_is_named_with_both_uids(web: Web) -> None:
    good, bad, other = radiograph(), radiograph(), radiograph()
    headers = [ds.to_json_dict() for ds in (good, bad, other)]
    headers[1]["7FE00010"] = {"vr": "OW", "BulkDataURI": "http://127.0.0.1:1/secrets"}  # never fetched
    del headers[2]["0020000D"]
    answer = send(web, JSON_TYPE, (JSON_TYPE, "", json.dumps(headers).encode()))
    assert answer.status_code == 202
    failed = answer.json()[FAILED]["Value"]
    assert [item["00081155"]["Value"] for item in failed] == [[bad.SOPInstanceUID], [other.SOPInstanceUID]]
    assert [item["00081150"]["Value"] for item in failed] == [[bad.SOPClassUID], [other.SOPClassUID]]
    assert failed[0]["00000902"]["Value"] == ["bulk data that the metadata names is not in the request"]
    assert reasons(answer) == [0xC000, 0xC000]
    assert answer.json()[STORED]["Value"][0]["00081155"]["Value"] == [good.SOPInstanceUID]


def test_an_instance_of_another_study_than_the_path_is_refused(web: Web) -> None:
    ds = radiograph()
    headers = {"Content-Type": JSON_TYPE}
    answer = requests.post(f"{web.base}/studies/1.2.3", ds.to_json().encode(), headers=headers, timeout=30)
    assert answer.status_code == 409
    assert answer.json()[FAILED]["Value"][0]["00081155"]["Value"] == [ds.SOPInstanceUID]


DEEP = b'{"00400275":{"vr":"SQ","Value":[' * 40 + b"{}" + b"]}}" * 40
BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>'


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (JSON_TYPE, b"", 400),
        (JSON_TYPE, b"[]", 400),
        (JSON_TYPE, b"{", 400),
        (JSON_TYPE, b"[" * 200_000, 400),
        (JSON_TYPE, b"[1]", 409),
        (JSON_TYPE, b"{}", 409),
        (JSON_TYPE, DEEP, 409),
        (JSON_TYPE, b'{"00080018":{"vr":"UI","Value":"1.2"}}', 409),
        (JSON_TYPE, b'{"00080018":{"vr":"XX","Value":["1.2"]}}', 409),
        (JSON_TYPE, b'{"7FE00010":{"vr":"OW","InlineBinary":"?"}}', 409),
        (JSON_TYPE, b'{"00080018":{"vr":"UI","Value":[{"a":1}]}}', 409),
        (JSON_TYPE, b'{"00280010":{"vr":"US","Value":["many"]}}', 409),
        (XML_TYPE, b"<", 400),
        (XML_TYPE, b"<html/>", 400),
        (XML_TYPE, BOMB, 400),
        (XML_TYPE, b"<NativeDicomModel>" * 500, 400),
        (XML_TYPE, b"<NativeDicomModel/>", 409),
        (XML_TYPE, b'<NativeDicomModel><DicomAttribute tag="1" vr="UI"/></NativeDicomModel>', 409),
    ],
    ids=lambda value: None if not isinstance(value, bytes) else repr(value[:30]),
)
def test_what_is_no_metadata_is_refused(web: Web, kind: str, body: bytes, status: int) -> None:
    answer = requests.post(f"{web.base}/studies", body, headers={"Content-Type": kind}, timeout=30)
    assert answer.status_code == status, answer.text
    assert web.get("/studies").status_code == 204


def test_a_place_is_needed_and_metadata_is_bounded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"--x\r\nContent-Type: application/octet-stream\r\n\r\nx\r\n--x--\r\n"
    headers = {"Content-Type": f'multipart/related; type="{JSON_TYPE}"; boundary=x'}
    assert requests.post(f"{web.base}/studies", body, headers=headers, timeout=30).status_code == 400
    monkeypatch.setattr("radir_pacs.web.dicomweb.stow.METADATA_BYTES", 1000)
    padded = json.dumps({"00204000": {"vr": "LT", "Value": ["x" * 2000]}}).encode()
    answer = requests.post(f"{web.base}/studies", padded, headers={"Content-Type": JSON_TYPE}, timeout=30)
    assert answer.status_code == 413


def test_parts_are_named_by_content_id_too(web: Web) -> None:
    ds = radiograph()
    header = ds.to_json_dict()
    header["7FE00010"] = {"vr": "OW", "BulkDataURI": "cid:pixels@sender"}
    body = (
        b"--x\r\nContent-Type: application/dicom+json\r\n\r\n" + json.dumps(header).encode() + b"\r\n"
        b"--x\r\nContent-ID: <pixels@sender>\r\n\r\n" + ds.PixelData + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": f'multipart/related; type="{JSON_TYPE}"; boundary=x'}
    assert requests.post(f"{web.base}/studies", body, headers=headers, timeout=30).status_code == 200
    assert base64.b64encode(stored(web, ds).PixelData) == base64.b64encode(ds.PixelData)
    assert BytesIO(stored(web, ds).PixelData).read() == ds.PixelData
