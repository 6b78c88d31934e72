"""Storing and deleting, PS3.18 10.5."""

from __future__ import annotations

import json

from tests.dicom_files import radiograph

from .service import JSON, PARTS, Service, body, case, nothing, ok, parts, rows, written


@case
def storing_again_changes_nothing(s: Service) -> None:
    ds = s.material["one"]
    data = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written(ds) + b"\r\n--x--\r\n"
    answer = ok(s.post(data, PARTS)).json()
    assert answer["00081190"]["Value"][0].endswith("/studies/1.2.77.1")
    (stored,) = answer["00081199"]["Value"]
    assert stored["00081155"]["Value"] == [ds.SOPInstanceUID]
    assert stored["00081190"]["Value"][0].endswith(s.path("one"))
    assert "Value" not in answer.get("00081198", {})
    assert len(rows(s.get("/studies/1.2.77.1/instances"))) == 2


@case
def one_object_may_be_the_body(s: Service) -> None:
    ok(s.post(written(s.material["one"])))


@case
def the_wrong_study_in_the_path_is_a_failure_with_both_uids(s: Service) -> None:
    data = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written(s.material["one"]) + b"\r\n--x--\r\n"
    answer = ok(s.post(data, PARTS, "/studies/1.2.3"), 409).json()
    (failed,) = answer["00081198"]["Value"]
    assert (
        failed["00081155"]["Value"] == ["1.2.77.1.1.1"] and failed["00081150"]["Value"] and failed["00081197"]["Value"]
    )


@case
def what_is_no_dicom_is_refused(s: Service) -> None:
    for data in (b"This is not a valid DICOM file", b"DICM" + b"corrupted" * 100):
        ok(s.post(data), 400, 409)
    ok(s.post(b""), 400)


@case
def other_media_types_are_refused(s: Service) -> None:
    ok(s.post(b"plain text", "text/plain"), 400, 415)
    ok(s.post(b"--x--", "multipart/form-data; boundary=x"), 400, 415)


@case
def metadata_is_stored(s: Service) -> None:
    ds = radiograph(StudyInstanceUID="1.2.77.9")
    header = json.loads(ds.to_json(bulk_data_threshold=100, bulk_data_element_handler=lambda _: "pixels"))
    data = (
        b"--x\r\nContent-Type: application/dicom+json\r\n\r\n" + json.dumps([header]).encode() + b"\r\n"
        b"--x\r\nContent-Type: application/octet-stream\r\nContent-Location: pixels\r\n\r\n"
        + ds.PixelData
        + b"\r\n--x--\r\n"
    )
    ok(s.post(data, f'multipart/related; type="{JSON}"; boundary=x'))
    path = f"/studies/1.2.77.9/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    try:
        assert body(parts(s.get(path + "/frames/1"))[0]) == ds.PixelData
    finally:
        s.ask("DELETE", "/studies/1.2.77.9")


@case
def methods_that_are_not_there_say_which_are(s: Service) -> None:
    for method in ("PUT", "DELETE"):
        answer = ok(s.ask(method, "/studies"), 405)
        assert {"GET", "POST"} <= {name.strip() for name in answer.headers["Allow"].split(",")}


@case
def studies_series_and_instances_are_deleted(s: Service) -> None:
    uid = "1.2.77.8"
    made = [radiograph(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.{n // 2}") for n in range(4)]
    for ds in made:
        data = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + written(ds) + b"\r\n--x--\r\n"
        ok(s.post(data, PARTS))
    ok(s.ask("DELETE", f"/studies/{uid}/series/{uid}.0/instances/{made[0].SOPInstanceUID}"), 200, 204)
    assert len(rows(s.get(f"/studies/{uid}/instances"))) == 3
    ok(s.ask("DELETE", f"/studies/{uid}/series/{uid}.1"), 200, 204)
    assert len(rows(s.get(f"/studies/{uid}/instances"))) == 1
    ok(s.ask("DELETE", f"/studies/{uid}"), 200, 204)
    nothing(s.get(f"/studies?StudyInstanceUID={uid}"))
