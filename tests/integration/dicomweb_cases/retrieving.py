"""Instances and their frames, PS3.18 10.4."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
from pydicom.uid import RLELossless

from .service import DICOM, ELE, OCTETS, Service, body, case, ok, parts, syntax, written


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
