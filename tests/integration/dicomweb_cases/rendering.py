"""Pictures: rendered resources, PS3.18 10.4, and WADO-URI, PS3.18 9."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import requests
from PIL import Image

from .service import DICOM, Service, case, ok


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
