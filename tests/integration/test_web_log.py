"""web.log says what was asked, how it ended and how long it took, and nothing about patients."""

from __future__ import annotations

import json
import logging
import socket

import pytest
import requests

from radir_pacs.logs import JsonLines, trace_of
from tests.dicom_files import radiograph
from tests.integration.conftest import Web

PATIENT = "DOE^JANE"


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    records = [record for record in caplog.records if record.name.startswith("radir_pacs.web")]
    return [json.loads(JsonLines("web").format(record)) for record in records]


def test_a_request_is_a_line_with_its_route_and_without_its_words(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    ds = radiograph(PatientName=PATIENT, PatientID="SECRET-7", AccessionNumber="ACC-SECRET")
    with caplog.at_level(logging.INFO):
        web.store(ds)
        web.get(f"/studies?PatientName={PATIENT}&PatientID=SECRET-7")
        web.get(f"/studies/{ds.StudyInstanceUID}/metadata")
        requests.get(f"{web.root}/?find=ACC-SECRET", timeout=30)
        requests.get(f"{web.root}/no/such/{PATIENT}", timeout=30)
        requests.get(f"{web.root}/health/live", timeout=30)
        web.end()
    shown = [(line["method"], line["route"], line["status"]) for line in lines(caplog) if line["message"] == "request"]
    assert shown == [
        ("POST", "/dicom-web/studies", 200),
        ("GET", "/dicom-web/studies", 200),
        ("GET", "/dicom-web/studies/<study>/metadata", 200),
        ("GET", "/", 200),
        ("GET", None, 404),
    ]
    text = json.dumps(lines(caplog))
    for secret in (PATIENT, "SECRET", ds.StudyInstanceUID):
        assert secret not in text
    assert all(isinstance(line["took_ms"], int) for line in lines(caplog) if line["message"] == "request")
    traced = [line["message"] for line in lines(caplog) if line.get("trace") == trace_of(ds.StudyInstanceUID)]
    assert traced == ["study arrives", "request"], "the study's own lines, from its arrival on"


def test_a_failure_is_a_warning_with_its_code(
    web: Web, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError(PATIENT)

    monkeypatch.setattr(web.catalogue.studies, "get", fail)
    with caplog.at_level(logging.INFO):
        assert requests.get(f"{web.root}/api/studies/1.2.3", timeout=30).status_code == 500
        web.end()
    failed, request = lines(caplog)
    assert (failed["level"], failed["code"], failed["exception"]) == ("ERROR", "internal", "ValueError")
    assert (request["level"], request["status"], request["route"]) == ("WARNING", 500, "/api/studies/<study>")
    assert PATIENT not in json.dumps(lines(caplog))


def test_what_is_no_http_is_counted_too(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        with socket.create_connection(("127.0.0.1", web.settings.web_port), timeout=30) as peer:
            peer.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {PATIENT}\r\n\r\n".encode())
            assert b"400" in peer.recv(4096)
        web.end()
    (line,) = lines(caplog)
    assert (line["message"], line["status"]) == ("request refused", 400)
    assert PATIENT not in json.dumps(line)
