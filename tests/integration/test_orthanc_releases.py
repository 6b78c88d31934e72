"""The plugin inside each release of Orthanc's Python plugin: a stand-in offers what that release documents, no more.

From the NEWS file and the ``orthanc.pyi`` of the releases: OrthancException came with 3.3, a two-argument
SendHttpStatus with 4.2 (before, it wanted a text and its length), StartStreamAnswer with 5.0, and with 6.0 what
exists depends on the SDK that it is built with. Orthanc 1.10 hands the parameters of a URL over as they stand there,
later ones decoded. What the stand-in for Debian's release 4.0 offers is compared with the real one.
"""

from __future__ import annotations

import atexit
import importlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration.orthanc import PYTHON, running_orthanc
from tests.services import ROOT

RELEASES = ("3.3", "4.0", "4.2", "5.0", "6.0")
# No callback for changes or instances: while Orthanc stores, nothing of the plugin is called.
OFFERED = {"ExtendOrthancExplorer", "GetConfiguration", "LogWarning", "RegisterRestCallback", "RestApiGet"} | {
    "RestApiPost",
    "OrthancException",
}
STUDY, UID = "-".join(["01234567"] * 5), "1.2.3"
UNKNOWN_RESOURCE = 17


class Output:
    """What a REST callback writes to, up to release 4.1."""

    def __init__(self) -> None:
        self.status, self.body = 0, b""
        self.headers: dict[str, str] = {}

    def AnswerBuffer(self, answer: bytes, mime_type: str, /) -> None:
        assert isinstance(answer, bytes) and isinstance(mime_type, str)
        self.status, self.body = 200, answer

    def SendHttpStatus(self, status: int, body: str, size: int, /) -> None:
        assert isinstance(body, str) and size == len(body.encode())
        self.status, self.body = status, body.encode()

    def SendMethodNotAllowed(self, allowed: str, /) -> None:
        self.status = 405

    def SetHttpHeader(self, key: str, value: str, /) -> None:
        self.headers[key] = value


class LaterOutput(Output):
    def SendHttpStatus(self, status: int, body: bytes, /) -> None:  # type: ignore[override]
        assert isinstance(body, bytes)
        self.status, self.body = status, body


class Orthanc:
    """One release: its module, and what the plugin registered with it."""

    def __init__(self, release: str, configuration: dict[str, Any]) -> None:
        self.decodes = release not in ("3.3", "4.0")
        self.output = Output if release in ("3.3", "4.0") else LaterOutput
        self.routes: dict[str, Any] = {}
        self.explorer = ""
        self.keeps = "Success"
        self.jobs: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        module = ModuleType("orthanc")
        offered = {
            "OrthancException": type("OrthancException", (Exception,), {}),
            "ExtendOrthancExplorer": lambda script: setattr(self, "explorer", script),
            "GetConfiguration": lambda: json.dumps(configuration),
            "LogWarning": lambda text: None,
            "RegisterRestCallback": self.routes.__setitem__,
            "RestApiGet": self.get,
            "RestApiPost": self.post,
        }
        assert offered.keys() == OFFERED
        module.__dict__.update(offered)
        self.module = module

    def get(self, uri: str) -> bytes:
        series = [{"ID": "series", "Instances": ["a", "b"], "MainDicomTags": {"Modality": "CT"}}]
        known = {
            f"/studies/{STUDY}": {"MainDicomTags": {"StudyInstanceUID": UID}},
            f"/studies/{STUDY}/series": series,
            "/series/series/instances": [
                {"ID": name, "FileUuid": f"file of {name}", "MainDicomTags": {"SOPInstanceUID": f"{UID}.{number}"}}
                for number, name in enumerate("ab")
            ],
            "/changes?last": {"Last": 0},
            "/jobs/1": {"State": "Success", "Content": {"FailedInstancesCount": 0}},
        }
        if uri.startswith("/changes?since="):
            since = int(uri.partition("=")[2].partition("&")[0])
            rest = self.changes[since:]
            return json.dumps({"Changes": rest, "Last": since + len(rest), "Done": True}).encode()
        if uri not in known:
            raise self.module.OrthancException(UNKNOWN_RESOURCE, "Unknown resource")
        return json.dumps(known[uri]).encode()

    def post(self, uri: str, body: Any) -> bytes:
        assert isinstance(body, str | bytes)
        if uri == "/instances":
            return json.dumps({"ID": "new", "Path": "/instances/new", "Status": self.keeps}).encode()
        self.jobs.append({"uri": uri, **json.loads(body)})
        return json.dumps({"ID": "1"}).encode()

    def ask(self, method: str, pattern: str, *groups: str, body: Any = None, **get: str) -> Any:
        """What a browser's request comes to."""
        output = self.output()
        request: dict[str, Any] = {"method": method, "groups": groups, "headers": {"host": "orthanc"}}
        if method == "GET":
            request["get"] = get if self.decodes else {name: text.replace(" ", "%20") for name, text in get.items()}
        else:
            request["body"] = json.dumps(body).encode()
        self.routes[pattern](output, pattern, **request)
        return output


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def service(asked: list[str]) -> Iterator[str]:
    """A service that holds the study, answers questions with an empty list, and reports as DICOM."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            report = "dicom," in self.headers["Accept"]
            holds = {"study": UID, "instances": [f"{UID}.0", f"{UID}.1"]}
            rows = json.dumps(holds).encode() if self.path.endswith("/instances") else b"[]"
            content = b"DICM" if report else rows
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom" if report else "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=RELEASES)
def orthanc(
    request: pytest.FixtureRequest, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Orthanc]:
    """The plugin loaded into a release."""
    found = Orthanc(request.param, {"StorageDirectory": str(tmp_path), "RadIR": {"Url": service}})
    monkeypatch.setitem(sys.modules, "orthanc", found.module)
    monkeypatch.syspath_prepend(str(ROOT / "orthanc_plugin"))  # as Orthanc does for the script's folder
    monkeypatch.delitem(sys.modules, "radir_orthanc", raising=False)
    at_exit: list[Any] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    importlib.import_module("radir_orthanc")
    yield found
    (stop,) = at_exit
    stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "radir-forward"]
    monkeypatch.delitem(sys.modules, "radir_orthanc")


def test_the_routes_answer(orthanc: Orthanc, asked: list[str]) -> None:
    similar = "/radir/similar/([^/]+)"
    assert orthanc.ask("GET", similar, STUDY, anatomy="left lower lobe").status == 200
    assert asked == [f"/dicom-web/studies/{UID}/similar?anatomy=left%20lower%20lobe"]
    kept = orthanc.ask("POST", similar, UID, body={"anatomy": "heart"})
    assert json.loads(kept.body) == {"ID": "new", "Path": "/instances/new", "Status": "Success"}
    status = json.loads(orthanc.ask("GET", "/radir/status").body)
    assert (status["forward"], status["queue"]["waiting"]) == ("store", 0)
    assert "radir-similar-cases" in orthanc.explorer


def test_failures_have_a_status_and_a_reason(orthanc: Orthanc) -> None:
    similar = "/radir/similar/([^/]+)"
    for expected, output in (
        (404, orthanc.ask("GET", similar, "-".join(["89abcdef"] * 5))),
        (404, orthanc.ask("GET", similar, "nonsense")),
        (400, orthanc.ask("POST", similar, UID, body=[])),
        (400, orthanc.ask("POST", similar, UID, body={})),
    ):
        assert output.status == expected
        assert json.loads(output.body)["error"]["message"]
        assert output.headers["Content-Type"] == "application/json"
    assert orthanc.ask("DELETE", similar, UID).status == 405


def test_a_stable_study_is_handed_over(orthanc: Orthanc) -> None:
    orthanc.changes += [{"ChangeType": "NewStudy", "ID": STUDY}, {"ChangeType": "StableStudy", "ID": STUDY}]
    deadline = time.monotonic() + 30
    while json.loads(orthanc.ask("GET", "/radir/status").body)["queue"]["handed_over"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (job,) = orthanc.jobs
    assert (job["uri"], job["Resources"], job["Synchronous"]) == ("/modalities/radir/store", ["a", "b"], False)
    assert job["Permissive"] is False, "the success of a permissive job says nothing"


def test_a_report_that_orthanc_filters_out_was_not_saved(orthanc: Orthanc) -> None:
    """It answers 200 all the same; what stands there already is saved."""
    save = "/radir/api/studies/([0-9][0-9.]{0,63})/report"
    for status, code in (("Success", 200), ("AlreadyStored", 200), ("FilteredOut", 502), ("Failure", 502)):
        orthanc.keeps = status
        output = orthanc.ask("POST", save, UID, body={"anatomy": "heart"})
        assert output.status == code, status
    orthanc.keeps = "Success"
    saved = json.loads(orthanc.ask("POST", save, UID, body={"anatomy": "heart"}).body)
    assert saved == {"stored": "/instances/new", "destination": "Orthanc", "job": None, "job_url": None}


def test_debians_release_offers_what_its_stand_in_does(tmp_path: Path) -> None:
    script, found = tmp_path / "names.py", tmp_path / "names.json"
    script.write_text(f"""
import json, orthanc
names = {{"module": dir(orthanc), "output": dir(orthanc.RestOutput),
    "unknown": orthanc.ErrorCode.UNKNOWN_RESOURCE}}
open({str(found)!r}, "w").write(json.dumps(names))
""")
    with running_orthanc(tmp_path / "orthanc", plugins=(PYTHON,), PythonScript=str(script)):
        names = json.loads(found.read_text())
    assert set(names["module"]) >= OFFERED
    assert {name for name in vars(Output) if name[0].isupper()} <= set(names["output"])
    assert names["unknown"] == UNKNOWN_RESOURCE
