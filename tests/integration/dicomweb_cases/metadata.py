"""Metadata and bulk data, PS3.18 10.4."""

from __future__ import annotations

import requests

from .service import JSON, LONG, NAME, XML, Service, body, case, ok, parts, rows


@case
def metadata_at_every_level(s: Service) -> None:
    for path, count in ((s.path("one"), 1), ("/studies/1.2.77.1/series/1.2.77.1.1", 1), ("/studies/1.2.77.1", 2)):
        answer = s.get(path + "/metadata")
        assert answer.headers["Content-Type"].startswith(JSON) and len(rows(answer)) == count


@case
def metadata_names_the_instance(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    assert (row["00080018"]["Value"], row["0020000D"]["Value"]) == (["1.2.77.1.1.1"], ["1.2.77.1"])
    assert row["00080020"]["Value"] == ["20260102"]


@case
def metadata_text_is_utf8(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    assert row["00100010"]["Value"] == [{"Alphabetic": NAME}] and row["00080005"]["Value"] == ["ISO_IR 192"]


@case
def metadata_keys_ascend(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    assert list(row) == sorted(row) and not any(tag.startswith("FFFE") for tag in row)


@case
def pixel_data_are_a_uri(s: Service) -> None:
    pixels = rows(s.get(s.path("one") + "/metadata"))[0]["7FE00010"]
    assert "BulkDataURI" in pixels and "Value" not in pixels and "InlineBinary" not in pixels


@case
def large_values_can_be_fetched(s: Service) -> None:
    row = rows(s.get(s.path("one") + "/metadata"))[0]
    for found in (row["00091001"], row["00400275"]["Value"][1]["00091001"]):
        if "InlineBinary" in found:
            continue
        answer = requests.get(found["BulkDataURI"], timeout=30)
        assert body(parts(answer)[0]) == LONG


@case
def metadata_as_xml(s: Service) -> None:
    (part,) = parts(s.get(s.path("one") + "/metadata", f'multipart/related; type="{XML}"'))
    assert 'vr="PN"' in body(part).decode() and "Jörg" in body(part).decode()


@case
def lists_of_media_types_are_read(s: Service) -> None:
    for accept in (
        "application/json",
        "application/json, application/dicom+json",
        "toto, application/dicom+json",
        "application/json, tata",
        f"application/json, {XML}",
        "*/*",
        "application/*",
        "image/webp, */*;q=0.8, text/html, application/xhtml+xml, application/xml;q=0.9",
        "text/html, image/gif, image/jpeg, */*; q=.2, */*; q=.2",
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "text/html, application/xhtml+xml, application/xml;q=0.9, image/webp, */*;q=0.8",
    ):
        assert len(rows(s.get("/studies/1.2.77.1/metadata", accept))) == 2, accept


@case
def what_cannot_be_made_is_refused(s: Service) -> None:
    for accept in ("application/nope", "toto, tata", 'multipart/related; type="application/nope"', "image/png"):
        ok(s.get("/studies/1.2.77.1/metadata", accept), 400, 406)


@case
def what_is_not_there_is_404(s: Service) -> None:
    for path in ("/studies/1.2.3", "/studies/1.2.77.1/series/1.2.3", s.path("one").replace("1.2.77.1.1.1", "1.2.3")):
        ok(s.get(path + "/metadata"), 404)
    ok(s.get("/studies/1.2.77.2/series/1.2.77.1.1/instances/1.2.77.1.1.1/metadata"), 404)
    ok(s.get("/bulkdata/test"), 404)


@case
def malformed_paths_are_refused(s: Service) -> None:
    for path in ("/studies/invalid/endpoint/metadata", "/studies/nope/metadata"):
        ok(s.get(path), 400, 404)
