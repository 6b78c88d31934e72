"""Rendered pictures: a radiograph as it is read, a slice in its window, the picture that stands for a study."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from radir_pacs import anatomy
from radir_pacs.types import Encoding, ImageKind, SliceStack
from radir_pacs.web.sidebar.cases import PictureRegion, pictures
from tests.catalogue_material import serve_model
from tests.dicom_files import radiograph
from tests.integration.conftest import Web, part10
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


def quarters(**changes: Any) -> Dataset:
    """Four shades, darkest at the top left, brightest at the bottom right: 0, 1000, 2000, 4000."""
    pixels = np.kron(np.array([[0, 1000], [2000, 4000]], np.uint16), np.ones((16, 16), np.uint16))
    return radiograph(PixelData=pixels.tobytes(), WindowCenter=2000, WindowWidth=4001, **changes)


@pytest.mark.parametrize(
    ("viewport", "size", "corners"),
    [
        ("32,32,16,0,16,16", (32, 32), (64, 64, 64, 64)),  # the quarter at the top right
        ("32,32,16,16,,", (32, 32), (255, 255, 255, 255)),
        ("32,32,,,32,32", (32, 32), (0, 64, 128, 255)),
        ("32,32,0,0,-32,32", (32, 32), (64, 0, 255, 128)),  # mirrored
        ("32,32,0,0,32,-32", (32, 32), (128, 255, 0, 64)),  # upside down
        ("32,32,,,-32,-32", (32, 32), (255, 128, 64, 0)),
        ("64,64,0,0,32,16", (64, 32), (0, 64, 0, 64)),  # its own proportions
        ("16,16,8.5,8.5,999,999", (16, 16), (0, 64, 128, 255)),  # up to the edge of the picture
    ],
)
def test_a_viewport_crops_and_flips(web: Web, viewport: str, size: tuple[int, int], corners: tuple[int, ...]) -> None:
    ds = quarters()
    web.store(ds)
    shown = picture(web, f"{path_of(ds)}/rendered?viewport={viewport}")
    assert shown.size == size
    found = np.asarray(shown)[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()
    assert found == pytest.approx(corners, abs=3)


BAD_PARAMETERS = (
    "viewport=0,1 viewport=9999,1 viewport=1 viewport=a,b window=1 window=1,0 window=nan,nan window=1,2,x"
    " viewport=9,9,1 viewport=9,9,1,1,1 viewport=9,9,1,1,0,1 viewport=9,9,-1,0,5,5 viewport=9,9,nan,0,5,5"
    " viewport=9,9,40,0,5,5 viewport=9,9,0,0,inf,5 viewport=9,9,0,0,1e9,5 viewport=9,9,x,0,5,5 viewport=9,9,0,0,5,5,5"
)


def test_a_thumbnail_is_not_cropped(web: Web) -> None:
    ds = quarters()
    web.store(ds)
    assert web.get(f"{path_of(ds)}/thumbnail?viewport=9,9,0,0,5,5").status_code == 400
    assert web.get(f"{path_of(ds)}/thumbnail?viewport=9,9").status_code == 200


def encoded_ct(web: Web) -> tuple[list[Dataset], SliceStack]:
    """A CT of twelve slices whose lungs lie between the third and the tenth."""
    serve_model(web.catalogue, "ct-test", ImageKind.CT, 2, {})
    slices = [ct_slice(number, WindowCenter=0, WindowWidth=100) for number in range(12)]
    web.store(*slices)
    web.catalogue.studies.complete_now("1.2.3")
    stack = SliceStack(images=tuple(ds.SOPInstanceUID for ds in slices), dome=2.0, apex=9.0, step_mm=30.0)
    encoding = Encoding(
        study_uid="1.2.3", series_uid="1.2.3.1", sop_uid="1.2.3.1.6", model_id="ct-test", regions=("chest",),
        vectors=np.array([[1, 0]], np.float32), slices=stack,
    )  # fmt: skip
    assert web.catalogue.encodings.save(encoding, web.catalogue.studies.revision_of("1.2.3")[1])
    return slices, stack


def test_a_region_is_shown_on_its_slice_in_its_window(web: Web) -> None:
    slices, stack = encoded_ct(web)
    for region, window in (("carina", "-600,1500"), ("liver", "40,400"), ("right_lung_apex", "-600,1500")):
        best = anatomy.slices_of(stack, region)[0].sop_uid
        own = f"/studies/1.2.3/series/1.2.3.1/instances/{best}"
        for whole in ("/studies/1.2.3", "/studies/1.2.3/series/1.2.3.1"):
            shown = web.get(f"{whole}/rendered?region={region}")
            assert shown.status_code == 200
            assert shown.headers["ETag"] == web.get(f"{own}/rendered?window={window}").headers["ETag"], region
            small = web.get(f"{whole}/thumbnail?region={region}")
            assert small.content == web.get(f"{own}/thumbnail?window={window}").content
    asked = web.get("/studies/1.2.3/rendered?region=carina&window=0,100")
    assert asked.headers["ETag"] == web.get(f"{path_of(slices[6])}/rendered?window=0,100").headers["ETag"]
    assert web.get("/studies/1.2.3/rendered?region=nose").status_code == 400


def test_the_sidebar_learns_slice_window_and_outlines(web: Web) -> None:
    _, stack = encoded_ct(web)
    with web.app.app_context():
        found = pictures("1.2.3.1.6", PictureRegion(seen="lungs", outlined="lungs"))
        gone = pictures("1.2.3.1.99", PictureRegion(seen="lungs", outlined="lungs"))
    best = anatomy.slices_of(stack, "lungs")[0].sop_uid
    assert (found["instance"], found["frame"], found["window"]) == (best, 1, (-600, 1500))
    assert f"/instances/{best}/thumbnail?" in found["thumbnail"] and found["thumbnail"].endswith(
        "window=-600,1500,linear"
    )
    assert f"/instances/{best}/rendered?" in found["picture"]
    assert [tuple(map(tuple, points)) for points in found["outlines"]] == list(anatomy.outlines("lungs", ImageKind.CT))
    assert found["stored_outlines"] == found["outlines"]
    assert (gone["thumbnail"], gone["outlines"]) == (None, [])


def test_a_frame_of_a_multi_frame_ct_is_shown(web: Web) -> None:
    frames = np.stack([np.frombuffer(two_shades(24, 1024 + 100 * n), np.uint16) for n in range(12)])
    ds = ct_slice(1, NumberOfFrames=12)
    ds.PixelData = frames.tobytes()
    web.store(ds)
    serve_model(web.catalogue, "ct-test", ImageKind.CT, 2, {})
    web.catalogue.studies.complete_now("1.2.3")
    names = (ds.SOPInstanceUID, *(f"{ds.SOPInstanceUID}/{n}" for n in range(2, 13)))
    stack = SliceStack(images=names, dome=2.0, apex=9.0, step_mm=30.0)
    encoding = Encoding(
        study_uid="1.2.3", series_uid="1.2.3.1", sop_uid=ds.SOPInstanceUID, model_id="ct-test", regions=("chest",),
        vectors=np.array([[1, 0]], np.float32), slices=stack,
    )  # fmt: skip
    assert web.catalogue.encodings.save(encoding, web.catalogue.studies.revision_of("1.2.3")[1])
    frame = anatomy.slices_of(stack, "heart")[0].frame
    shown = web.get("/studies/1.2.3/rendered?region=heart")
    own = web.get(f"{path_of(ds)}/frames/{frame}/rendered?window=40,400")
    assert frame > 1 and shown.status_code == 200 and shown.content == own.content
    with web.app.app_context():
        found = pictures(ds.SOPInstanceUID, PictureRegion(seen="heart", outlined="heart"))
    assert found["frame"] == frame and f"/frames/{frame}/rendered?" in found["picture"]
    assert web.get(found["thumbnail"].removeprefix("/dicom-web")).status_code == 200


def test_a_palette_is_shown_in_its_colours(web: Web) -> None:
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, value in (("Red", 200), ("Green", 100), ("Blue", 50)):
        tables[f"{channel}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{channel}PaletteColorLookupTableData"] = (np.full(256, value, "<u2") << 8).tobytes()
    ds = radiograph(Modality="US", BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=bytes(1024), **tables)
    ds["PixelData"].VR = "OB"
    web.store(ds)
    assert np.asarray(picture(web, path_of(ds) + "/rendered"))[0, 0].tolist() == [200, 100, 50]
    frame = web.get(path_of(ds) + "/frames/1", "multipart/related; type=application/octet-stream")
    assert frame.status_code == 200 and bytes(1024) in frame.content  # as it is stored


@pytest.mark.parametrize("modality", ["CT", "DX", "MR"])
def test_a_rescale_beyond_all_numbers_is_a_reason(web: Web, modality: str) -> None:
    ds = radiograph(Modality=modality, RescaleSlope="1e308", RescaleIntercept="1e308")
    web.store(ds)
    for path in ("/rendered", "/thumbnail", "/rendered?window=40,400", "/frames/1/rendered"):
        answer = web.get(path_of(ds) + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (406, "not_acceptable")


def test_a_sender_may_be_believed_its_lut_shape(serve: Callable[..., Web]) -> None:
    ds = quarters(PresentationLUTShape="INVERSE")
    plain = serve()
    plain.store(ds)
    source = plain.catalogue.instances.get(ds.SOPInstanceUID).source
    believing = serve(lut_shape_senders=(source,))
    for path in ("/rendered", "/frames/1/rendered"):
        assert np.asarray(picture(plain, path_of(ds) + path))[0, 0] == 0
        assert np.asarray(picture(believing, path_of(ds) + path))[0, 0] == 255


def test_what_no_codec_reads_is_said_at_storing(web: Web) -> None:
    ds = radiograph(PixelData=encapsulate([b"\xff\xd8 spectral selection"]))
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.53")
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    answer = requests.post(web.base + "/studies", part10(ds), headers={"Content-Type": "application/dicom"}, timeout=30)
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC122]
    assert any("1.2.840.10008.1.2.4.53" in refusal.reason for refusal in web.catalogue.refusals.recent(5))
    video = radiograph(Modality="US", PixelData=encapsulate([b"a video"]))
    video.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    video["PixelData"].VR, video["PixelData"].is_undefined_length = "OB", True
    web.store(video)  # never encoded, so it does no harm


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
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
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
