"""Text answers are compressed for clients that accept it; JSON bodies are bounded in size and depth."""

from __future__ import annotations

import gzip
import json

import pytest
import requests

from tests.dicom_files import radiograph
from tests.integration.conftest import Web
from tests.integration.test_web_wado import path_of

XML = 'multipart/related; type="application/dicom+xml"'


def raw(web: Web, path: str, coding: str, accept: str = "") -> tuple[requests.Response, bytes]:
    """The answer and its bytes as they came over the wire."""
    headers = {"Accept-Encoding": coding}
    answer = web.get(path, accept, headers=headers, stream=True)
    return answer, answer.raw.read(decode_content=False)


@pytest.mark.parametrize("accept", ["", "application/json", XML])
@pytest.mark.parametrize("coding", ["gzip", "gzip, deflate, br", "*", "deflate;q=1, gzip;q=0.1"])
def test_metadata_and_searches_are_compressed(web: Web, accept: str, coding: str) -> None:
    study = radiograph().StudyInstanceUID
    web.store(*(radiograph(StudyInstanceUID=study) for _ in range(5)))
    for path in (f"/studies/{study}/metadata", "/instances"):
        answer, body = raw(web, path, coding, accept)
        plain, plain_body = raw(web, path, "identity", accept)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert {"Accept", "Accept-Encoding"} <= set(answer.headers["Vary"].split(", ")) & set(
            plain.headers["Vary"].split(", ")
        )
        assert len(body) < len(plain_body) / 3
        if accept != XML:
            assert json.loads(gzip.decompress(body)) == json.loads(plain_body)


@pytest.mark.parametrize("coding", ["", "identity", "br", "gzip;q=0", "identity, *;q=0"])
def test_who_does_not_accept_it_gets_plain_text(web: Web, coding: str) -> None:
    ds = radiograph()
    web.store(ds)
    answer, body = raw(web, path_of(ds) + "/metadata", coding)
    assert "Content-Encoding" not in answer.headers
    assert json.loads(body)[0]["00080018"]["Value"] == [ds.SOPInstanceUID]


def test_the_etag_of_a_compressed_answer_is_known_again(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    for coding in ("gzip", "identity"):
        answer, _ = raw(web, path_of(ds) + "/metadata", coding)
        again = web.get(path_of(ds) + "/metadata", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_pictures_instances_and_small_answers_stay_as_they_are(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    for path in (path_of(ds), path_of(ds) + "/rendered", path_of(ds) + "/frames/1", "/studies/1.2.3/metadata"):
        answer, _ = raw(web, path, "gzip")
        assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 40_000, b"{", b"\xff", b"[]", b""])
def test_deep_or_broken_json_is_400(web: Web, body: bytes) -> None:
    for path in ("/sidebar/context", "/api/studies/1.2.3/feedback"):
        headers = {"Content-Type": "application/json"}
        answer = requests.post(web.root + path, body, headers=headers, timeout=30)
        assert (answer.status_code, set(answer.json()["error"])) == (400, {"code", "message"})


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_json_body_is_refused(web: Web, chunked: bool) -> None:
    body = json.dumps({"StudyInstanceUID": "1.2.3", "filler": "x" * 400_000}).encode()
    data = (body[at : at + 50_000] for at in range(0, len(body), 50_000)) if chunked else body
    answer = requests.post(
        web.root + "/sidebar/context", data, headers={"Content-Type": "application/json"}, timeout=30
    )
    assert answer.status_code in (400, 413)


def test_a_coded_body_is_read_only_where_instances_are_stored(web: Web) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = requests.post(web.root + "/sidebar/context", gzip.compress(b"{}"), headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
