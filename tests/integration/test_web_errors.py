"""Every failure of every route has the same shape, whatever is sent."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radir_pacs.web.server import REQUEST_HEADER_BYTES
from tests.dicom_files import radiograph
from tests.integration.conftest import Web

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW")
UIDS = ("1.2.3", "1.2", "..", "", "all", "1,2", "%2e%2e", "%00", "é", "a b")
NAMES = ("limit", "StudyDate", "anatomy", "similarto", "accept", "window", "study", "includefield")
VALUES = ("*/*", "application/dicom", "multipart/related; type=application/dicom; boundary=x", "localhost")
PIECES = st.one_of(st.sampled_from(UIDS), st.text(max_size=8))
LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(["Accept", "Content-Type", "If-None-Match", "Range", "Origin", "Host", "Sec-Fetch-Site"]),
    st.one_of(st.sampled_from(VALUES), LATIN),
    max_size=3,
)
QUERIES = st.dictionaries(st.one_of(st.sampled_from(NAMES), PIECES), PIECES, max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_error_of_every_route_has_the_one_shape(shared_web: Web, data: st.DataObject) -> None:
    rules = {rule.rule for rule in shared_web.app.url_map.iter_rules()} | {"/", "/nowhere", "/dicom-web/x/<y>"}
    path = re.sub(r"<[^>]+>", lambda _: data.draw(PIECES), data.draw(st.sampled_from(sorted(rules))))
    answer = shared_web.app.test_client().open(
        path.replace("?", "%3F"),
        method=data.draw(st.sampled_from(METHODS)),
        query_string=data.draw(QUERIES),
        headers=data.draw(HEADERS),
        data=data.draw(st.binary(max_size=40)),
    )
    assert answer.status_code != 500
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert answer.mimetype == "application/json"
        body: Any = answer.json
        error = body["error"]
        assert isinstance(error["code"], str) and isinstance(error["message"], str)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".ljust(REQUEST_HEADER_BYTES, b"x"), 431),
        (b"GET /".ljust(REQUEST_HEADER_BYTES, b"x"), 431),
        (b"BROKEN\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /dicom-web/studies HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /dicom-web/studies HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n", 413),
        (b"POST /dicom-web/studies HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
    ],
)
def test_what_the_server_itself_refuses_has_the_shape_too(shared_web: Web, request_bytes: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", shared_web.settings.web_port), 30) as peer:
        peer.sendall(request_bytes)
        answer = b""
        while chunk := peer.recv(65536):
            answer += chunk
    assert answer.startswith((b"HTTP/1.1 %d" % status, b"HTTP/1.0 %d" % status))
    assert b'{"error": {"code": "' in answer
    assert b"waitress" not in answer.lower()


def test_a_failure_of_ours_tells_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("PatientName Secret^Agent")

    monkeypatch.setattr(web.catalogue.qido, "search", fail)
    answer = web.get("/studies")
    assert answer.status_code == 500
    assert answer.json() == {"error": {"code": "internal", "message": "The server failed on this request."}}


def test_404_and_405(web: Web) -> None:
    web.store(radiograph())
    assert web.get("/nowhere").json()["error"]["code"] == "not_found"
    answer = web.ask("PUT", "/studies")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
