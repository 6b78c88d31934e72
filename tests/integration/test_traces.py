"""Traces: an instance is followed through all roles by OpenTelemetry, and nothing about a patient is sent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydicom import dcmread

from radir_pacs import config, traces
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError
from radir_pacs.logs import trace_of
from tests.hospital_material import of_patients, usual_hospital
from tests.stack import Stack, running_stack

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"  # W3C Trace Context 3.2
PLACES = {"service.name", "service.version", "service.instance.id", "telemetry.sdk.language"}
PLACES |= {"telemetry.sdk.name", "telemetry.sdk.version"}


@dataclass
class Collector:
    """Takes spans by OTLP over HTTP, as OpenTelemetry's collector does."""

    url: str = ""
    spans: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        asked = ExportTraceServiceRequest.FromString(body)
        for group in asked.resource_spans:
            place = {one.key: one.value.string_value for one in group.resource.attributes}
            for scope in group.scope_spans:
                for span in scope.spans:
                    attributes = {one.key: _value(one.value) for one in span.attributes}
                    self.spans.append({"span": span, "name": span.name, "place": place, "attributes": attributes})

    def of(self, trace_id: int) -> list[dict[str, Any]]:
        return [one for one in list(self.spans) if int.from_bytes(one["span"].trace_id) == trace_id]

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, sorted({one["name"] for one in self.spans})
            time.sleep(0.1)


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def collecting() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            found.take(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        yield found
        server.shutdown()


@dataclass
class Traced:
    stack: Stack
    collector: Collector
    files: Path
    studies: list[dict[str, Any]]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    files, studies = usual_hospital(tmp_path_factory)
    studies = [study for study in of_patients(studies, 3) if study["kind"] == "CXR"]
    with (
        collecting() as collector,
        running_stack(tmp_path_factory.mktemp("traced"), traces_url=collector.url) as stack,
    ):
        stack.json("send", *(str(files / file) for study in studies for file in study["files"]))
        stack.wait_until_done(len(studies))
        yield Traced(stack, collector, files, studies)


def test_a_study_is_followed_from_c_store_to_the_answer(traced: Traced) -> None:
    study = traced.studies[0]["study_uid"]
    asked = requests.get(f"{traced.stack.web}/dicom-web/studies/{study}/similar?anatomy=heart", timeout=60)
    assert asked.status_code in (200, 204)
    trace_id = traces.trace_id_of(study)
    assert f"{trace_id:032x}".startswith(trace_of(study)), "the logs show its beginning"
    wanted = {"store", "complete", "job", "read", "network", "save", "request", "ask", "open", "search", "show"}
    traced.collector.wait(lambda: wanted <= {one["name"] for one in traced.collector.of(trace_id)})
    spans = traced.collector.of(trace_id)
    by_place = {one["name"]: one["place"]["service.instance.id"] for one in spans}
    assert [by_place[name] for name in ("store", "complete", "job", "request")] == [
        "listener",
        "relay",
        "worker",
        "web",
    ]
    ids = {one["span"].span_id: one["name"] for one in spans}
    above = {one["name"]: ids.get(one["span"].parent_span_id) for one in spans}
    assert [above[name] for name in ("read", "network", "save")] == ["job"] * 3
    assert [above[name] for name in ("ask", "open", "search", "show")] == ["request"] * 4
    stored = [one for one in spans if one["name"] == "store"]
    assert all(one["attributes"]["outcome"] == "stored" for one in stored) and all(
        one["span"].end_time_unix_nano > one["span"].start_time_unix_nano for one in stored
    )
    begun = {one["name"]: one["span"].start_time_unix_nano for one in spans}
    assert begun["store"] < begun["job"] < begun["request"]


def test_a_callers_traceparent_is_continued_and_the_study_linked(traced: Traced) -> None:
    study = traced.studies[1]["study_uid"]
    url = f"{traced.stack.web}/dicom-web/studies/{study}/similar?anatomy=heart"
    for header in (TRACEPARENT, "00-zz-1", "x" * 5000):  # the last two are nobody's: the study's trace has the request
        requests.get(url, headers={"traceparent": header}, timeout=60)
    theirs = int(TRACEPARENT.split("-")[1], 16)
    traced.collector.wait(lambda: any(one["name"] == "request" for one in traced.collector.of(theirs)))
    [request] = [one for one in traced.collector.of(theirs) if one["name"] == "request"]
    assert request["span"].parent_span_id.hex() == TRACEPARENT.split("-")[2]
    [link] = request["span"].links
    own = traces.trace_id_of(study)
    assert int.from_bytes(link.trace_id) == own
    traced.collector.wait(lambda: sum(one["name"] == "request" for one in traced.collector.of(own)) == 2)


def test_nothing_about_a_patient_is_in_any_span(traced: Traced) -> None:
    """Every attribute of every span is one of a fixed set, and no byte that was sent tells who it is about."""
    requests.get(f"{traced.stack.web}/dicom-web/studies/1.2.3.4/similar?anatomy=Meyer", timeout=60)
    requests.get(f"{traced.stack.web}/dicom-web/studies?similarto=1.2.3.4&PatientName=Meyer", timeout=60)
    traced.collector.wait(lambda: len(traced.collector.of(traces.trace_id_of("1.2.3.4"))) >= 2)
    for one in list(traced.collector.spans):
        assert set(one["attributes"]) <= traces.ATTRIBUTES and set(one["place"]) <= PLACES
        assert not one["span"].events and not one["span"].status.message, "the text of an error may quote a patient"
        for name, value in one["attributes"].items():
            assert isinstance(value, int | float) or len(value) < 100, (name, value)
    sent = b"".join(traced.collector.raw)
    secrets = {b"Meyer", b"1.2.3.4"}
    for study in traced.studies:
        for file in study["files"]:
            ds = dcmread(traced.files / file, stop_before_pixels=True)
            secrets |= {str(ds.get(name, "")).encode() for name in ("PatientID", "PatientName", "AccessionNumber")}
            secrets |= {ds.StudyInstanceUID.encode(), ds.SeriesInstanceUID.encode(), ds.SOPInstanceUID.encode()}
    assert not [secret for secret in secrets - {b""} if secret in sent]


def test_without_the_setting_opentelemetry_is_not_even_loaded() -> None:
    script = (
        "import sys, radir_workers.__main__, radir_pacs.web.app, radir_pacs.listener.server;"
        "from radir_pacs import traces; from radir_pacs.config import Settings; traces.begin(Settings(), 'x');"
        "assert traces.start('request', '1.2') is traces.OFF is traces.start('job');"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout) == []


def test_a_share_takes_the_same_studies_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        for _ in range(2):  # two processes
            traces.begin(Settings(traces_url=collector.url, traces_share=0.3), "test")
            for number in range(100):
                traces.record("store", 0.1, f"1.2.{number}")
            traces.end()
        seen = [int.from_bytes(one["span"].trace_id) for one in collector.spans]
    assert 15 <= len(set(seen)) <= 45 and all(seen.count(one) == 2 for one in set(seen))


def test_a_collector_that_is_away_costs_nothing_and_wrong_settings_are_named() -> None:
    traces.begin(Settings(traces_url="http://127.0.0.1:9/v1/traces"), "test")
    began = time.monotonic()
    with traces.start("request", "1.2.3") as span:
        traces.start("ask").end()
        span.end(failed=True, status=500)
    traces.end()
    assert time.monotonic() - began < 10
    with pytest.raises(SettingError, match="traces_url"):
        config.load(environ={"RADIR_TRACES_URL": "collector:4318"})
