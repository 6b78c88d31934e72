"""WADO-RS: instances as stored or as Explicit VR Little Endian, metadata, frames, bulk data."""

from __future__ import annotations

from email import message_from_bytes
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10

ELE = "1.2.840.10008.1.2.1"
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def path_of(ds: Dataset) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def parts_of(answer: requests.Response) -> list[Any]:
    assert answer.status_code in (200, 206), answer.text
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    return list(message_from_bytes(head + answer.content).get_payload())


def body_of(part: Any) -> bytes:
    body: bytes = part.get_payload(decode=True)
    return body


def ramp(frames: int = 1) -> Any:
    return np.arange(frames * 32 * 32, dtype=np.uint16).reshape(frames, 32, 32) % 4096


def rle(**changes: Any) -> Dataset:
    ds = radiograph(**changes)
    ds.compress(RLELossless)
    return ds


def test_a_client_fetches_a_study_as_it_was_sent(web: Web) -> None:
    one = radiograph()
    two = radiograph(StudyInstanceUID=one.StudyInstanceUID)
    web.store(one, two)
    fetched = {ds.SOPInstanceUID: ds for ds in web.client.retrieve_study(one.StudyInstanceUID)}
    assert fetched == {one.SOPInstanceUID: one, two.SOPInstanceUID: two}
    assert len(web.client.retrieve_series(one.StudyInstanceUID, one.SeriesInstanceUID)) == 1
    assert web.client.retrieve_instance(two.StudyInstanceUID, two.SeriesInstanceUID, two.SOPInstanceUID) == two


def test_parts_carry_the_stored_bytes_and_their_place(web: Web) -> None:
    ds = rle()
    web.store(ds)
    answer = web.get(f"/studies/{ds.StudyInstanceUID}", AS_STORED)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    (part,) = parts_of(answer)
    assert body_of(part) == part10(ds)
    assert part["Content-Type"] == f"application/dicom; transfer-syntax={RLELossless}"
    assert part["Content-Location"] == web.base + path_of(ds)


def test_one_instance_comes_alone_when_asked_so(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    answer = web.get(path_of(ds), "application/dicom")
    assert answer.headers["Content-Type"] == f"application/dicom; transfer-syntax={ELE}"
    assert answer.content == part10(ds)
    assert web.get(f"/studies/{ds.StudyInstanceUID}", "application/dicom").status_code == 406


def written_as(ds: Dataset, syntax: str) -> bytes:
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    with BytesIO() as file:
        pydicom.dcmwrite(file, ds, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
        return file.getvalue()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEG2000Lossless])
def test_without_a_transfer_syntax_the_answer_is_explicit_little_endian(web: Web, syntax: str) -> None:
    ds = radiograph(PixelData=ramp().tobytes())
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = ramp().byteswap().tobytes()
        stored = written_as(ds, syntax)
    elif syntax == ImplicitVRLittleEndian:
        stored = written_as(ds, syntax)
    else:
        ds.compress(syntax)
        stored = part10(ds)
    sent = requests.post(web.base + "/studies", stored, headers={"Content-Type": "application/dicom"}, timeout=30)
    assert sent.status_code == 200
    fetched = pydicom.dcmread(BytesIO(web.get(path_of(ds), "application/dicom").content))
    assert fetched.file_meta.TransferSyntaxUID == ELE
    np.testing.assert_array_equal(fetched.pixel_array, ramp()[0])
    assert fetched.PatientName == ds.PatientName
    for anything in ("application/dicom; transfer-syntax=*", "*/*", JAVA):
        answer = web.get(path_of(ds), anything)
        body = answer.content if anything.startswith("app") else body_of(parts_of(answer)[0])
        compressed = syntax not in (ImplicitVRLittleEndian, ExplicitVRBigEndian)
        if compressed and anything.startswith("app"):
            assert body == stored
        else:  # PS3.18 8.7.3.5.2: never implicit VR, never big endian, and explicit VR where none is named
            assert pydicom.dcmread(BytesIO(body)).file_meta.TransferSyntaxUID == ELE
    assert web.get(path_of(ds), f"application/dicom; transfer-syntax={syntax}").content == stored
    other = web.get(path_of(ds), "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80")
    assert (other.status_code, other.json()["error"]["code"]) == (406, "not_acceptable")


def test_what_cannot_be_rewritten_is_left_out_with_206(web: Web) -> None:
    good = radiograph()
    video = radiograph(StudyInstanceUID=good.StudyInstanceUID, Modality="US", PixelData=encapsulate([b"\0" * 64]))
    video.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    video["PixelData"].VR, video["PixelData"].is_undefined_length = "OB", True
    web.store(good, video)
    answer = web.get(f"/studies/{good.StudyInstanceUID}", 'multipart/related; type="application/dicom"')
    assert answer.status_code == 206
    assert [part["Content-Location"] for part in parts_of(answer)] == [web.base + path_of(good)]
    assert len(parts_of(web.get(f"/studies/{good.StudyInstanceUID}", AS_STORED))) == 2


def broken_jpeg(**changes: Any) -> Dataset:
    """A radiograph whose syntax we decode and whose pixel data nobody can."""
    ds = radiograph(PixelData=encapsulate([b"\xff\xd8nonsense\xff\xd9"]), **changes)
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return ds


def test_decoding_trouble_of_one_instance_takes_no_other_away(web: Web) -> None:
    broken = broken_jpeg()
    good = rle(StudyInstanceUID=broken.StudyInstanceUID)
    web.store(broken, good)
    for accept in ("application/dicom", 'multipart/related; type="application/dicom"'):
        assert web.get(path_of(broken), accept).status_code == 406
    assert web.get(path_of(broken) + "/rendered").status_code == 406
    parts = parts_of(web.get(f"/studies/{good.StudyInstanceUID}", 'multipart/related; type="application/dicom"'))
    syntaxes = {part["Content-Location"]: part["Content-Type"].rpartition("=")[2] for part in parts}
    assert syntaxes == {
        web.base + path_of(broken): "1.2.840.10008.1.2.4.50",
        web.base + path_of(good): ELE,
    }


def test_metadata_and_its_etag(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    for path in (f"/studies/{ds.StudyInstanceUID}", path_of(ds)):
        answer = web.get(path + "/metadata")
        (header,) = answer.json()
        assert list(header) == sorted(header)
        assert header["00100010"]["Value"] == [{"Alphabetic": "Test^Person"}]
        assert header["7FE00010"]["BulkDataURI"] == f"{web.base}{path_of(ds)}/bulkdata/7FE00010"
        again = web.get(path + "/metadata", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    web.store(radiograph(StudyInstanceUID=ds.StudyInstanceUID))
    path = f"/studies/{ds.StudyInstanceUID}/metadata"
    assert len(web.get(path, headers={"If-None-Match": answer.headers["ETag"]}).json()) == 2
    assert web.client.retrieve_study_metadata(ds.StudyInstanceUID)


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_are_cut_out(web: Web, compressed: bool) -> None:
    pixels = ramp(4)
    ds = radiograph(NumberOfFrames=4, PixelData=pixels.tobytes())
    if compressed:
        ds.compress(RLELossless)
    web.store(ds)
    parts = parts_of(web.get(path_of(ds) + "/frames/3,1", 'multipart/related; type="application/octet-stream"'))
    assert [body_of(part) for part in parts] == [pixels[2].tobytes(), pixels[0].tobytes()]
    assert parts[0]["Content-Type"] == f"application/octet-stream; transfer-syntax={ELE}"
    assert parts[0]["Content-Location"] == f"{web.base}{path_of(ds)}/frames/3"
    alone = web.get(path_of(ds) + "/frames/2", "application/octet-stream")
    assert alone.content == pixels[1].tobytes()
    # OHIF leaves out the quotes
    for accept in ("multipart/related; type=application/octet-stream; transfer-syntax=*", "multipart/related"):
        assert len(parts_of(web.get(path_of(ds) + "/frames/1", accept))) == 1
    client = web.client.retrieve_instance_frames(
        ds.StudyInstanceUID,
        ds.SeriesInstanceUID,
        ds.SOPInstanceUID,
        [4],
        media_types=(("application/octet-stream", ELE),),
    )
    assert client[0] == pixels[3].tobytes()


def test_compressed_frames_come_as_stored_when_asked_so(web: Web) -> None:
    frames = [b"\xff\xd8one\xff\xd9", b"\xff\xd8two\xff\xd9x"]
    ds = radiograph(NumberOfFrames=2, PixelData=encapsulate(frames))
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    web.store(ds)
    answer = web.get(path_of(ds) + "/frames/1,2", 'multipart/related; type="image/jpeg"')
    parts = parts_of(answer)
    assert body_of(parts[0]).rstrip(b"\0") == frames[0]
    assert parts[0]["Content-Type"] == "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"
    assert web.get(path_of(ds) + "/frames/2", "image/jpeg").content == frames[1]
    assert web.get(path_of(ds) + "/frames/2", "image/jp2").status_code == 406
    assert web.get(path_of(ds) + "/frames/1,2", "image/jpeg").status_code == 406  # two need parts
    broken = web.get(path_of(ds) + "/frames/1", "application/octet-stream")
    assert (broken.status_code, broken.json()["error"]["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("named", ["image/dicom-rle", "image/x-dicom-rle", "image/dicom+rle"])
def test_compressed_frames_by_the_names_that_clients_use(web: Web, named: str) -> None:
    ds = rle()
    web.store(ds)
    answer = web.get(path_of(ds) + "/frames/1", f'multipart/related; type="{named}"')
    (part,) = parts_of(answer)
    assert part["Content-Type"] == f"{named}; transfer-syntax={RLELossless}"
    assert len(parts_of(web.get(path_of(ds) + "/frames/1", "multipart/*"))) == 1


@pytest.mark.parametrize(
    ("frames", "status"), [("0", 400), ("5", 404), ("1,x", 400), ("-1", 400), ("1,,2", 400), ("1" + ",1" * 3000, 400)]
)
def test_frame_lists_are_checked(web: Web, frames: str, status: int) -> None:
    ds = radiograph(NumberOfFrames=2, PixelData=ramp(2).tobytes())
    web.store(ds)
    answer = web.get(f"{path_of(ds)}/frames/{frames}")
    assert (answer.status_code, set(answer.json()["error"])) == (status, {"code", "message"})


def test_unknown_and_misplaced_things_are_404(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    other = radiograph()
    web.store(other)
    for path in (
        "/studies/1.2.3",
        "/studies/1.2.3/metadata",
        f"/studies/{ds.StudyInstanceUID}/series/1.2.3",
        f"/studies/{other.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}",
        f"/studies/{other.StudyInstanceUID}/series/{ds.SeriesInstanceUID}",
    ):
        answer = web.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path


def test_an_object_without_pixels_has_no_frames(web: Web) -> None:
    ds = radiograph()
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(ds, keyword)
    web.store(ds)
    assert web.get(path_of(ds) + "/frames/1").status_code == 404
    assert "7FE00010" not in web.get(path_of(ds) + "/metadata").json()[0]


@pytest.mark.parametrize(
    "uid",
    [
        "..",
        "..%2F..%2Fetc%2Fpasswd",
        "1.2.3%00",
        "1.2.3%0d%0aX-Evil:%201",
        "1" * 65,
        "1.02.3",
        "abc",
        "%F0%9F%92%A9",
        "*",
    ],
)
def test_what_is_no_uid_never_gets_further(web: Web, uid: str) -> None:
    session = requests.Session()
    prepared = session.prepare_request(requests.Request("GET", web.base))
    for path in (
        f"/studies/{uid}/metadata",
        f"/studies/1.2/series/{uid}/metadata",
        f"/studies/1.2/series/1.3/instances/{uid}",
    ):
        prepared.url = web.base + path  # as it is, without tidying
        answer = session.send(prepared, timeout=30)
        assert answer.status_code in (400, 404)
        assert set(answer.json()["error"]) == {"code", "message"}
        assert "X-Evil" not in answer.headers
