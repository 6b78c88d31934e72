"""STOW-RS: what was said to be stored is on the disk and in the catalogue; the rest is named with its reason."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset

from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10

DICOM = "application/dicom"
FAILED, STORED, NAMELESS = "00081198", "00081199", "0008119A"


def post(web: Web, *bodies: bytes, study: str = "", accept: str = "", part_type: str = "application/dicom") -> Any:
    parts = b"".join(b"--limit\r\nContent-Type: %s\r\n\r\n%s\r\n" % (part_type.encode(), body) for body in bodies)
    content_type = 'multipart/related; type="application/dicom"; boundary=limit'
    headers: Any = {"Content-Type": content_type, "Accept": accept or None}  # None: requests sends none
    return requests.post(f"{web.base}/studies{study}", parts + b"--limit--\r\n", headers=headers, timeout=30)


def reasons(answer: requests.Response, tag: str = FAILED) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.json()[tag]["Value"]]


def test_a_client_stores_instances_and_they_are_durable(web: Web) -> None:
    one = radiograph()
    two = radiograph(StudyInstanceUID=one.StudyInstanceUID, SeriesInstanceUID=one.SeriesInstanceUID)
    answer = web.client.store_instances([pydicom.dcmread(BytesIO(part10(ds))) for ds in (one, two)])
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [
        one.SOPInstanceUID,
        two.SOPInstanceUID,
    ]
    assert answer.RetrieveURL == f"{web.base}/studies/{one.StudyInstanceUID}"
    for ds in (one, two):
        stored = web.catalogue.instances.get(ds.SOPInstanceUID)
        data = web.blobs.path(stored.content_sha256).read_bytes()
        assert hashlib.sha256(data).hexdigest() == stored.content_sha256
        assert stored.source == "stow"
    assert list(web.blobs.incoming_folder.iterdir()) == []


def test_bytes_are_kept_as_sent(web: Web) -> None:
    ds = radiograph()
    body = part10(ds) + b"\xfc\xff\xfc\xffOB\0\0\x08\0\0\0--limit\r"  # trailing padding that looks like the boundary
    assert post(web, body).status_code == 200
    stored = web.catalogue.instances.get(ds.SOPInstanceUID)
    assert web.blobs.path(stored.content_sha256).read_bytes() == body


def test_the_retrieve_url_of_each_instance_works(web: Web) -> None:
    answer = post(web, part10(radiograph()))
    url = answer.json()[STORED]["Value"][0]["00081190"]["Value"][0]
    assert requests.get(url, timeout=30).status_code == 200


def test_the_same_again_is_stored_and_listed(web: Web) -> None:
    body = part10(radiograph())
    assert post(web, body).status_code == 200
    again = post(web, body)
    assert again.status_code == 200
    assert len(again.json()[STORED]["Value"]) == 1


def test_other_pixels_under_a_stored_uid_are_a_duplicate(web: Web) -> None:
    ds = radiograph()
    post(web, part10(ds))
    ds.PatientSex, ds.PixelData = "M", bytes(len(ds.PixelData))
    answer = post(web, part10(ds))
    assert answer.status_code == 409
    assert reasons(answer) == [0x0111]
    assert web.catalogue.studies.get(ds.StudyInstanceUID).patient_sex == "F"


def test_a_corrected_header_is_stored(web: Web) -> None:
    ds = radiograph()
    post(web, part10(ds))
    ds.PatientSex = "M"
    assert post(web, part10(ds)).status_code == 200
    assert web.catalogue.studies.get(ds.StudyInstanceUID).patient_sex == "M"


def test_some_stored_and_some_refused_is_202(web: Web) -> None:
    good = radiograph()
    answer = post(web, part10(good), b"not DICOM", part10(radiograph())[:200])
    assert answer.status_code == 202
    assert len(answer.json()[STORED]["Value"]) == 1
    assert reasons(answer, NAMELESS) == [0xC000, 0xC000]
    assert answer.json()[NAMELESS]["Value"][0]["00000902"]["Value"] == ["not a DICOM file"]
    assert [row.dimse_status for row in web.catalogue.refusals.recent()] == [0xC000, 0xC000]


def test_an_instance_of_another_study_than_the_path_is_refused(web: Web) -> None:
    ds = radiograph()
    answer = post(web, part10(ds), study="/1.2.3")
    assert answer.status_code == 409
    assert answer.json()[FAILED]["Value"][0]["00081155"]["Value"] == [ds.SOPInstanceUID]
    assert post(web, part10(ds), study=f"/{ds.StudyInstanceUID}").status_code == 200


def without_series() -> Dataset:
    ds = radiograph()
    del ds.SeriesInstanceUID
    return ds


@pytest.mark.parametrize(
    "make",
    [
        lambda: part10(without_series()),
        lambda: part10(radiograph(StudyInstanceUID="1.2.x")),
        lambda: part10(radiograph())[:-300],
        lambda: part10(radiograph(PatientID="A"))[:900],
    ],
    ids=["no series", "no UID", "cut in the pixels", "cut in the header"],
)
def test_a_failure_names_both_uids_and_says_why(web: Web, make: Callable[[], bytes]) -> None:
    body = make()
    meta = pydicom.dcmread(BytesIO(body), specific_tags=[], defer_size=1, force=True).file_meta
    answer = post(web, body)
    assert answer.status_code == 409
    (failed,) = answer.json()[FAILED]["Value"]
    assert failed["00081150"]["Value"] == [meta.MediaStorageSOPClassUID]
    assert failed["00081155"]["Value"] == [meta.MediaStorageSOPInstanceUID]
    assert failed["00081197"]["Value"] == [0xC000]
    assert 10 < len(failed["00000902"]["Value"][0]) <= 64


def test_a_client_reads_the_failures(web: Web) -> None:
    ds = radiograph()
    post(web, part10(ds))
    ds.PixelData = bytes(len(ds.PixelData))
    answer = Dataset.from_json(post(web, part10(ds), part10(radiograph())).json())
    (failed,) = answer.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (ds.SOPInstanceUID, 0x0111)
    assert len(answer.ReferencedSOPSequence) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"--x\nContent-Type: application/dicom\n\nDICM\n--x--\n", "LF alone"),
        (b"--x\r\nContent-Type: application/dicom\r\n\r\nDICM", "before its last boundary"),
        (b"--x\r\nContent-Type: application/dicom\n\nDICM\r\n--x--\r\n", "before its last boundary"),
        (b"--other\r\n\r\nDICM\r\n--other--\r\n", "before its last boundary"),
    ],
)
def test_a_body_that_breaks_the_form_says_how(web: Web, body: bytes, says: str) -> None:
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
    answer = requests.post(web.base + "/studies", body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "broken_multipart")
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
def test_a_compressed_body_is_read(web: Web, coding: str) -> None:
    ds = radiograph()
    parts = b"--x\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--x--\r\n" % part10(ds)
    for body, content_type in ((parts, "multipart/related; type=application/dicom; boundary=x"), (part10(ds), DICOM)):
        headers = {"Content-Type": content_type, "Content-Encoding": coding}
        packed = gzip.compress(body[:1000]) + gzip.compress(body[1000:])
        answer = requests.post(web.base + "/studies", packed, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
    stored = web.catalogue.instances.get(ds.SOPInstanceUID)
    assert web.blobs.path(stored.content_sha256).read_bytes() == part10(ds)


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd", "compress"])
def test_other_codings_are_415(web: Web, coding: str) -> None:
    headers = {"Content-Type": DICOM, "Content-Encoding": coding}
    answer = requests.post(web.base + "/studies", b"x", headers=headers, timeout=30)
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "gzip")


def test_what_grows_without_bound_is_413_and_damage_is_told(serve: Callable[..., Web]) -> None:
    web = serve(max_request_mib=1)
    headers = {"Content-Type": DICOM, "Content-Encoding": "gzip"}
    bomb = gzip.compress(b"\0" * (64 << 20))
    answer = requests.post(web.base + "/studies", bomb, headers=headers, timeout=30)
    assert reasons(answer, NAMELESS) == [0xA700] and answer.status_code == 409
    parts = {"Content-Type": "multipart/related; boundary=x", "Content-Encoding": "gzip"}
    assert requests.post(web.base + "/studies", bomb, headers=parts, timeout=30).status_code == 413
    good = gzip.compress(part10(radiograph()))
    for damaged in (b"no gzip", good[:-9], good[:50]):
        answer = requests.post(web.base + "/studies", damaged, headers=headers, timeout=30)
        assert answer.status_code == 409 and "gzip" in answer.text


def test_what_came_whole_before_the_gzip_body_broke_is_reported(web: Web) -> None:
    one, two = radiograph(), radiograph()
    parts = b"".join(b"--x\r\n\r\n%s\r\n" % part10(ds) for ds in (one, two)) + b"--x--\r\n"
    headers = {"Content-Type": "multipart/related; boundary=x", "Content-Encoding": "gzip"}
    packed = gzip.compress(parts[: len(part10(one)) + 40]) + gzip.compress(parts[len(part10(one)) + 40 :])[:-20]
    answer = requests.post(web.base + "/studies", packed, headers=headers, timeout=30)
    assert answer.status_code == 202
    assert answer.json()[STORED]["Value"][0]["00081155"]["Value"] == [one.SOPInstanceUID]
    assert "gzip" in answer.text


def test_one_instance_may_be_the_whole_body(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    assert web.catalogue.instances.get(ds.SOPInstanceUID).rows_px == 32


def test_the_answer_is_xml_when_asked_for(web: Web) -> None:
    answer = post(web, part10(radiograph()), accept="application/dicom+xml")
    assert answer.headers["Content-Type"] == "application/dicom+xml"
    assert b'<DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence">' in answer.content


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("text/plain", b"hello", 415),
        ("", b"hello", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', b"--x--", 400),
        ('multipart/related; type="image/jpeg"; boundary=x', b"--x--", 415),
        ('multipart/related; type="application/dicom"', b"--x--", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"--x--\r\n", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"--x\r\n\r\nDICM", 400),
        ('multipart/related; type="application/dicom"; boundary=x', b"--x\r\n" + b"A: b\r\n" * 9000, 400),
        ("multipart/related; type=application/dicom; boundary=" + "x" * 300, b"--x--", 400),
        ("multipart", b"", 400),
    ],
)
def test_what_is_no_multipart_of_instances_is_a_clear_error(
    web: Web, content_type: str, body: bytes, status: int
) -> None:
    headers: Any = {"Content-Type": content_type or None, "Accept": "*/*"}
    answer = requests.post(web.base + "/studies", body, headers=headers, timeout=30)
    assert answer.status_code == status
    assert set(answer.json()["error"]) >= {"code", "message"}


def test_countless_tiny_parts_are_refused(web: Web) -> None:
    part = b"--x\r\nContent-Type: application/dicom+json\r\n\r\n[]\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=x'}
    answer = requests.post(web.base + "/studies", part * 10_001 + b"--x--\r\n", headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_parts")


def test_what_came_whole_before_the_body_broke_is_reported(web: Web) -> None:
    ds = radiograph()
    body = b"--limit\r\n\r\n" + part10(ds) + b"\r\n--limit\r\n\r\n" + part10(radiograph())[:400]
    headers = {"Content-Type": "multipart/related; type=application/dicom; boundary=limit"}
    answer = requests.post(web.base + "/studies", body, headers=headers, timeout=30)
    assert answer.status_code == 202
    assert answer.json()[STORED]["Value"][0]["00081155"]["Value"] == [ds.SOPInstanceUID]


def test_a_part_of_another_type_is_refused(web: Web) -> None:
    assert post(web, b"{}", part_type="application/json").status_code == 409


def large(pixels: int) -> Dataset:
    return radiograph(Rows=pixels, Columns=1024, PixelData=bytes(pixels * 2048))


def test_an_instance_over_the_limit_is_refused_and_the_next_one_kept(serve: Callable[..., Web]) -> None:
    web = serve(max_instance_mib=1)
    too_large = large(600)
    answer = post(web, part10(too_large), part10(radiograph()))
    assert answer.status_code == 202
    assert reasons(answer) == [0xA700]
    assert answer.json()[FAILED]["Value"][0]["00081155"]["Value"] == [too_large.SOPInstanceUID]


def test_a_request_over_the_limit_is_413_in_the_one_shape(serve: Callable[..., Web]) -> None:
    web = serve(max_request_mib=1)
    for chunked in (False, True):
        data: Any = (b"x" * 65536 for _ in range(40)) if chunked else b"x" * (2 << 20)
        try:
            answer = requests.post(
                web.base + "/studies", data, headers={"Content-Type": "application/dicom"}, timeout=30
            )
        except requests.ConnectionError:
            continue  # closed on us while we went on sending: as good
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"


def test_a_full_disk_is_out_of_resources(serve: Callable[..., Web]) -> None:
    web = serve(min_free_disk_mib=1 << 40)
    answer = post(web, part10(radiograph()))
    assert answer.status_code == 409
    assert reasons(answer, NAMELESS) == [0xA700]


def test_no_name_of_a_patient_is_logged(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        post(web, part10(radiograph(PatientName="Secret^Agent", PatientID="SECRET-7")))
    assert "Secret" not in caplog.text and "SECRET" not in caplog.text
