"""A real Orthanc with the plugin beside a running stack, and the studies that went from the one to the other."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.orthanc import DICOM_WEB, PYTHON, Orthanc, running_orthanc
from tests.services import ROOT
from tests.stack import Stack

Hospital = tuple[Path, list[dict[str, Any]]]
SCRIPT = ROOT / "orthanc_plugin" / "radir_orthanc.py"
SHIPPED = ROOT / "deploy" / "orthanc" / "orthanc.json"


@contextmanager
def orthanc_with_plugin(
    folder: Path,
    *,
    web_port: int,
    listener_port: int = 9,
    port: int = 0,
    orthanc: dict[str, Any] | None = None,
    **own: Any,
) -> Iterator[Orthanc]:
    """An Orthanc with our plugin; ``own`` is added to its RadIR block, ``orthanc`` to its whole configuration."""
    settings: dict[str, Any] = {
        "PythonScript": str(SCRIPT),
        "DicomModalities": {"radir": ["RADIR", "127.0.0.1", listener_port]},
        "DicomModalitiesInDatabase": False,
        "DicomScuTimeout": 2,
        "RadIR": {"Url": f"http://127.0.0.1:{web_port}", "TimeBudget": 30.0} | own,
    }
    if port:
        settings["HttpPort"] = port
    with running_orthanc(folder, plugins=(DICOM_WEB, PYTHON), **(settings | (orthanc or {}))) as started:
        yield started


def refused(orthanc: Orthanc, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """(status, message) of a request that must fail: a POST where there is a body."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        orthanc.ask("GET" if body is None else "POST", path, body, **headers)
    return caught.value.code, json.loads(caught.value.read())["error"]["message"]


def wait_for_queue(orthanc: Orthanc, seconds: float = 120, **expected: Any) -> dict[str, Any]:
    """Wait until the plugin's queue is as expected."""
    deadline = time.monotonic() + seconds
    while True:
        queue: dict[str, Any] = orthanc.get("/radir/status")["queue"]
        if expected.items() <= queue.items():
            return queue
        assert time.monotonic() < deadline, queue
        time.sleep(0.3)


def wait_until_seen(orthanc: Orthanc, change: str, resource: str, *, times: int, seconds: float = 120) -> None:
    """Wait until Orthanc's log has that change of the resource so many times, and the plugin has read it."""
    deadline = time.monotonic() + seconds
    while True:
        log = orthanc.get("/changes?limit=5000")["Changes"]
        found = [one["Seq"] for one in log if (one["ChangeType"], one["ID"]) == (change, resource)]
        if len(found) >= times and orthanc.get("/radir/status")["queue"]["last_change"] >= found[-1]:
            return
        assert time.monotonic() < deadline, f"{len(found)} of {times}"
        time.sleep(0.3)


@dataclass
class House:
    """Orthanc, the stack, and the studies that went from the one to the other."""

    orthanc: Orthanc
    stack: Stack
    studies: list[dict[str, Any]]
    orthanc_ids: dict[str, str]  # by study UID

    def of_kind(self, kind: str) -> list[str]:
        return [study["study_uid"] for study in self.studies if study["kind"] == kind]


@contextmanager
def running_house(stack: Stack, hospital: Hospital, folder: Path) -> Iterator[House]:
    """All studies stored in Orthanc, handed over and indexed."""
    files, studies = hospital
    with orthanc_with_plugin(folder, web_port=stack.web_port, listener_port=stack.listener_port) as orthanc:
        ids = {study["study_uid"]: orthanc.store(files / file) for study in studies for file in study["files"]}
        stack.wait_until_done(len(studies))
        wait_for_queue(orthanc, waiting=0, handed_over=len(studies))
        yield House(orthanc, stack, studies, ids)
