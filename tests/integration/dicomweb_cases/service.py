"""The service that is asked, what is stored in it, and how its answers are taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import requests
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
