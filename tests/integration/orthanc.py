"""A real Orthanc for one test: its folder, its loopback HTTP port, its log; ended at the end of the body.

Debian's Orthanc binds all addresses whatever its settings say. So it admits no remote HTTP caller, and its DICOM server
stays off: it sends by C-STORE and receives by HTTP.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import free_port
from tests.services import need

PLUGINS = Path("/usr/share/orthanc/plugins")
DICOM_WEB, PYTHON = "libOrthancDicomWeb.so", "libOrthancPython.so"  # never gdcm: JPEG-LS frames segfault Orthanc
_START_S, _STOP_S = 30.0, 20.0


@dataclass
class Orthanc:
    """Speaks Orthanc's REST API. Requests raise urllib.error.HTTPError as urllib does."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """(status, body) of a request to ``path``."""
        request = urllib.request.Request(self.url + path, body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()

    def get(self, path: str) -> Any:
        return json.loads(self.ask("GET", path)[1])

    def post(self, path: str, body: Any) -> Any:
        return json.loads(self.ask("POST", path, json.dumps(body).encode())[1])

    def put(self, path: str, body: Any) -> None:
        self.ask("PUT", path, json.dumps(body).encode())

    def store(self, path: Path) -> str:
        """Give Orthanc one file; returns the Orthanc id of its study."""
        stored = json.loads(self.ask("POST", "/instances", path.read_bytes())[1])
        study: str = stored["ParentStudy"]
        return study

    def study_of(self, study_uid: str) -> str | None:
        """The Orthanc id of a study, None while it has none."""
        found = json.loads(self.ask("POST", "/tools/lookup", study_uid.encode())[1])
        return next((row["ID"] for row in found if row["Type"] == "Study"), None)

    def send(self, peer: str, orthanc_ids: list[str], seconds: float = 120) -> dict[str, Any]:
        """Send studies by C-STORE as a job of Orthanc's; returns the job when it is done."""
        job = self.post(f"/modalities/{peer}/store", {"Resources": orthanc_ids, "Synchronous": False})
        return self.wait_for_job(job["ID"], seconds)

    def stow(self, server: str, orthanc_ids: list[str], seconds: float = 120) -> dict[str, Any]:
        """Send studies by STOW-RS as a job of the DICOMweb plugin's; returns the job when it is done."""
        job = self.post(f"/dicom-web/servers/{server}/stow", {"Resources": orthanc_ids, "Synchronous": False})
        return self.wait_for_job(job["ID"], seconds)

    def wait_for_job(self, job_id: str, seconds: float = 120) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            job: dict[str, Any] = self.get(f"/jobs/{job_id}")
            if job["State"] in {"Success", "Failure"}:
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.05)

    def log(self) -> str:
        return (self.folder / "orthanc.log").read_text(errors="replace")


@contextmanager
def running_orthanc(folder: Path, *, plugins: tuple[str, ...] = (DICOM_WEB,), **settings: Any) -> Iterator[Orthanc]:
    """An Orthanc that keeps its state in ``folder``; ``settings`` are added to its configuration."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian has it
    program = need("Orthanc")
    for name in plugins:
        need_plugin(name)
    folder.mkdir(parents=True, exist_ok=True)
    port = settings.get("HttpPort") or free_port()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGINS / name) for name in plugins],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomModalitiesInDatabase": True,
        "StableAge": 1,
        "JobsHistorySize": 100,
        "SaveJobs": False,
        "SynchronousCMove": False,
    } | settings
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("ab") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=log, env=os.environ | {"TCP_NODELAY": "1"}
        )
    orthanc = Orthanc(folder, port, process)
    try:
        _wait_until_up(orthanc)
        yield orthanc
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def need_plugin(name: str) -> None:
    """Skip, or fail under CI=true, as for a program."""
    if not (PLUGINS / name).exists():
        need(str(PLUGINS / name))


def _wait_until_up(orthanc: Orthanc) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        assert orthanc.process.poll() is None, orthanc.log()[-3000:]
        try:
            orthanc.get("/system")
            return
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < deadline, orthanc.log()[-3000:]
            time.sleep(0.05)
