"""WADO-URI (PS3.18 chapter 9), as clients from before WADO-RS ask."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from urllib.parse import quote

import pydicom
import pytest
import requests
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless

from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
from tests.integration.test_web_metadata import send
from tests.integration.test_web_wado import ELE, path_of, ramp, rle, written_as


def wado(web: Web, ds: Dataset, query: str = "", **changes: str | None) -> requests.Response:
    named: dict[str, str | None] = {
        "requestType": "WADO",
        "studyUID": ds.StudyInstanceUID,
        "seriesUID": ds.SeriesInstanceUID,
        "objectUID": ds.SOPInstanceUID,
    }
    named |= changes
    text = "&".join(f"{name}={quote(value, safe='/*,')}" for name, value in named.items() if value is not None)
    return requests.get(f"{web.root}/wado?{text}&{query}", timeout=30)


def picture(answer: requests.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(BytesIO(answer.content))


def test_an_image_comes_as_jpeg_unless_asked_otherwise(web: Web) -> None:
    ds = radiograph(Rows=48, PixelData=ramp(2).tobytes()[: 48 * 32 * 2])
    web.store(ds)
    assert (picture(wado(web, ds)).format, picture(wado(web, ds)).size) == ("JPEG", (32, 48))
    for asked, form in (
        ("image/jpeg", "JPEG"),
        ("image/jpg", "JPEG"),
        ("image/png", "PNG"),
        ("image/*", "JPEG"),
        ("image/png,image/jpeg", "PNG"),
        ("image/gif, image/png", "PNG"),
    ):
        assert picture(wado(web, ds, contentType=asked)).format == form, asked
    with_header = requests.get(wado(web, ds).url, headers={"Accept": "text/html"}, timeout=30)
    assert with_header.headers["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize("without", [(), ("studyUID",), ("seriesUID",), ("studyUID", "seriesUID")])
def test_the_object_itself(web: Web, without: tuple[str, ...]) -> None:
    ds = radiograph()
    web.store(ds)
    left_out: dict[str, Any] = dict.fromkeys(without)
    answer = wado(web, ds, contentType="application/dicom", **left_out)
    assert answer.headers["Content-Type"] == f"application/dicom; transfer-syntax={ELE}"
    assert answer.content == part10(ds)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_transfer_syntaxes(web: Web) -> None:
    ds = rle()
    web.store(ds)
    by_default = pydicom.dcmread(BytesIO(wado(web, ds, contentType="application/dicom").content))
    assert by_default.file_meta.TransferSyntaxUID == ELE
    as_stored = wado(web, ds, contentType="application/dicom", transferSyntax=ds.file_meta.TransferSyntaxUID)
    assert as_stored.content == part10(ds)
    assert wado(web, ds, contentType="application/dicom", transferSyntax=JPEG2000Lossless).status_code == 406
    implicit = radiograph()
    send(web, written_as(implicit, ImplicitVRLittleEndian))
    found = pydicom.dcmread(BytesIO(wado(web, implicit, contentType="application/dicom").content))
    assert found.file_meta.TransferSyntaxUID == ELE


def test_frames_windows_and_sizes(web: Web) -> None:
    ds = radiograph(NumberOfFrames=3, PixelData=ramp(3).tobytes())
    web.store(ds)
    assert wado(web, ds).headers["Content-Type"].startswith("application/dicom;")  # of several frames all of them
    for number in (1, 3):
        png = wado(web, ds, frameNumber=str(number), contentType="image/png").content
        assert png == web.get(f"{path_of(ds)}/frames/{number}/rendered").content
    assert wado(web, ds, frameNumber="4").status_code == 404
    single = radiograph()
    web.store(single)
    assert picture(wado(web, single, columns="16", rows="8")).size == (8, 8)
    assert picture(wado(web, single, rows="64")).size == (64, 64)
    windowed = wado(web, single, contentType="image/png", windowCenter="500.5", windowWidth="2000")
    assert windowed.content == web.get(path_of(single) + "/rendered?window=500.5,2000,linear").content
    assert windowed.content != wado(web, single, contentType="image/png").content
    assert len(wado(web, single, imageQuality="5").content) < len(wado(web, single, imageQuality="100").content)


def test_a_region_is_the_source_of_a_viewport(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    cut = wado(web, ds, region="0.25,0.5,0.75,1", contentType="image/png")
    same = web.get(path_of(ds) + "/rendered?viewport=16,16,8,16,16,16")
    assert (cut.status_code, cut.content) == (same.status_code, same.content)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"requestType": None}, 400),
        ({"requestType": "MINT"}, 400),
        ({"objectUID": None}, 400),
        ({"objectUID": "1.2.3"}, 404),
        ({"objectUID": "nope"}, 400),
        ({"studyUID": "1.2.3"}, 404),
        ({"seriesUID": "1.2.3"}, 404),
        ({"seriesUID": "nope"}, 400),
        ({"contentType": "video/mpeg"}, 406),
        ({"contentType": "nonsense"}, 400),
        ({"rows": "0"}, 400),
        ({"columns": "many"}, 400),
        ({"windowCenter": "40"}, 400),
        ({"windowCenter": "40", "windowWidth": "x"}, 400),
        ({"imageQuality": "x"}, 400),
        ({"frameNumber": "0"}, 400),
        ({"region": "0,0,2,2"}, 400),
        ({"region": "0.5,0,0.1,1"}, 400),
        ({"anonymize": "yes"}, 406),
        ({"presentationUID": "1.2"}, 406),
    ],
)
def test_what_is_asked_wrongly(web: Web, changes: dict[str, Any], status: int) -> None:
    ds = radiograph()
    web.store(ds)
    answer = wado(web, ds, **changes)
    assert (answer.status_code, set(answer.json()["error"])) == (status, {"code", "message"})


def test_a_parameter_twice_is_refused(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    assert wado(web, ds, f"objectUID={ds.SOPInstanceUID}").status_code == 400
