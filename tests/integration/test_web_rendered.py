"""Rendered pictures: a radiograph as it is read, a slice in its window, the picture that stands for a study."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_wado import path_of

CT = "1.2.840.10008.5.1.4.1.1.2"


def picture(web: Web, path: str, accept: str = "image/png") -> Image.Image:
    answer = web.get(path, accept)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == accept
    return Image.open(BytesIO(answer.content))


def two_shades(left: int, right: int) -> bytes:
    pixels = np.full((32, 32), left, np.uint16)
    pixels[:, 16:] = right
    pixels[:, 14:18] = (left + right) // 2
    return pixels.tobytes()


def ct_slice(number: int, **changes: Any) -> Dataset:
    """HU = stored - 1024; air at the left, ``number`` tens of HU at the right."""
    return radiograph(
        SOPClassUID=CT,
        Modality="CT",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.1",
        SOPInstanceUID=f"1.2.3.1.{number}",
        ImagePositionPatient=[0, 0, 5 * number],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        RescaleSlope=1,
        RescaleIntercept=-1024,
        InstanceNumber=100 - number,
        PixelData=two_shades(24, 1024 + 10 * number),
        **changes,
    )


def test_a_radiograph_is_turned_to_its_reading_position(web: Web) -> None:
    ds = radiograph(
        PixelData=two_shades(0, 4000), PatientOrientation=["R", "F"], PhotometricInterpretation="MONOCHROME1"
    )
    web.store(ds)
    shown = np.asarray(picture(web, path_of(ds) + "/rendered"))
    assert shown.shape == (32, 32)
    # bright where low was stored; and that side, stored at the left, is the patient's left: shown at the right
    assert shown[0, 0] < 50 and shown[0, -1] > 200
    as_stored = np.asarray(picture(web, path_of(ds) + "/frames/1/rendered"))
    assert as_stored[0, 0] > 200 and as_stored[0, -1] < 50


def test_jpeg_and_png_by_header_or_parameter(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    path = path_of(ds) + "/rendered"
    assert picture(web, path, "image/jpeg").format == "JPEG"
    assert web.get(path).headers["Content-Type"] == "image/png"
    assert web.get(path + "?accept=image/jpeg&quality=10", "*/*").headers["Content-Type"] == "image/jpeg"
    assert web.get(path, "image/gif").status_code == 406
    assert web.get(path, "application/dicom").status_code == 406


def test_the_viewport_is_filled_without_distortion(web: Web) -> None:
    ds = radiograph(Rows=32, Columns=32)
    web.store(ds)
    assert picture(web, path_of(ds) + "/rendered?viewport=64,48").size == (48, 48)
    assert picture(web, path_of(ds) + "/thumbnail", "image/jpeg").size == (256, 256)


BAD_PARAMETERS = "viewport=0,1 viewport=9999,1 viewport=1 viewport=a,b window=1 window=1,0 window=nan,nan window=1,2,x"


@pytest.mark.parametrize("query", BAD_PARAMETERS.split())
def test_bad_parameters_are_400(web: Web, query: str) -> None:
    ds = radiograph()
    web.store(ds)
    assert web.get(f"{path_of(ds)}/rendered?{query}").status_code == 400


def test_the_frontal_view_stands_for_a_radiograph_study(web: Web) -> None:
    lateral = radiograph(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1", ViewPosition="LL")
    frontal = radiograph(StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.2", PixelData=two_shades(1, 2000))
    web.store(lateral, frontal)
    whole = web.get("/studies/1.2.3/rendered")
    assert whole.headers["ETag"] == web.get(path_of(frontal) + "/rendered").headers["ETag"]


def test_the_middle_slice_by_position_stands_for_a_ct(web: Web) -> None:
    slices = [ct_slice(number) for number in (5, 1, 3, 2, 4)]
    web.store(*slices)
    whole = web.get("/studies/1.2.3/rendered")
    assert whole.headers["ETag"] == web.get(path_of(slices[2]) + "/rendered").headers["ETag"]
    series = web.get("/studies/1.2.3/series/1.2.3.1/rendered")
    assert series.content == whole.content


def test_a_ct_slice_is_shown_in_the_window_asked_for_its_own_or_that_of_lungs(web: Web) -> None:
    web.store(ct_slice(1), ct_slice(2, WindowCenter=-500, WindowWidth=1001))
    lungs = np.asarray(picture(web, path_of(ct_slice(1)) + "/rendered"))
    assert lungs[0, 0] == pytest.approx(60, abs=2) and lungs[0, -1] == pytest.approx(231, abs=2)  # -600, 1500
    own = np.asarray(picture(web, path_of(ct_slice(2)) + "/rendered"))
    assert own[0, 0] == 0
    asked = np.asarray(picture(web, path_of(ct_slice(2)) + "/rendered?window=0,4000,linear-exact"))
    assert asked[0, 0] == pytest.approx(64, abs=2) and asked[0, -1] == pytest.approx(129, abs=2)


def test_colour_stays_colour(web: Web) -> None:
    ds = radiograph(
        Modality="XC", SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8,
        BitsStored=8, HighBit=7, PixelData=bytes([200, 100, 50]) * 1024,
    )  # fmt: skip
    ds["PixelData"].VR = "OB"
    web.store(ds)
    assert np.asarray(picture(web, path_of(ds) + "/rendered"))[0, 0].tolist() == [200, 100, 50]


def test_an_unchanged_picture_is_304(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    answer = web.get(path_of(ds) + "/rendered")
    again = web.get(path_of(ds) + "/rendered", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = web.get(path_of(ds) + "/rendered?window=1,2", headers={"If-None-Match": answer.headers["ETag"]})
    assert other.status_code == 200


def test_pixels_that_cannot_be_decoded_are_a_clear_error(web: Web) -> None:
    ds = radiograph(PixelData=encapsulate([b"\xff\xd8 this is no picture"]))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    web.store(ds)
    answer = web.get(path_of(ds) + "/rendered")
    assert (answer.status_code, answer.json()["error"]["code"]) == (406, "not_acceptable")


def test_a_study_without_pictures_has_none(web: Web) -> None:
    ds = radiograph()
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(ds, keyword)
    web.store(ds)
    assert web.get(f"/studies/{ds.StudyInstanceUID}/rendered").status_code == 404


def test_a_flat_slice_is_drawn_black(web: Web) -> None:
    ds = radiograph(Modality="MR", PixelData=bytes(2048))
    web.store(ds)
    assert not np.asarray(picture(web, path_of(ds) + "/rendered")).any()
