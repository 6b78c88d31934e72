"""The life of a report beside `radir up`: before its images, corrected, merged, cancelled.

Each time the similar cases of the query say the right thing within seconds, since they are asked as a sidebar asks.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import requests

from tests.conftest import free_port
from tests.hl7_material import Peer, adt, code, oru
from tests.stack import running_stack

Hospital = tuple[Path, list[dict[str, Any]]]
BOUND_S = 30.0  # on a machine that others use; alone it takes about a second


def two_patients(hospital: Hospital, folder: Path) -> list[tuple[str, str]]:
    """Study UID and patient id of radiographs of two patients, whose images are in ``folder`` now, without reports."""
    source, studies = hospital
    chosen: dict[str, str] = {}
    for study in studies:
        if study["kind"] == "CXR":
            chosen.setdefault(study["patient_id"], study["study_uid"])
    found = list(chosen.items())[:2]
    folder.mkdir()
    for path in source.rglob("*.dcm"):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        if ds.StudyInstanceUID in dict(found).values() and ds.Modality != "SR":
            shutil.copy(path, folder / f"{ds.SOPInstanceUID}.dcm")
    return [(uid, patient) for patient, uid in found]


def eventually(condition: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < BOUND_S, what
        time.sleep(0.05)
    return time.monotonic() - began


def test_the_story(tmp_path: Path, hospital: Hospital) -> None:
    port = free_port()
    with running_stack(tmp_path / "home", hl7_port=str(port), min_cases="1") as stack, Peer(port) as ris:
        (query, query_patient), (case, case_patient) = two_patients(hospital, tmp_path / "images")

        def told(text: str, control: str, status: str = "F", minute: int = 0, *, of_query: bool = False) -> None:
            of, patient = (query, query_patient) if of_query else (case, case_patient)
            message = oru(
                text,
                control=control,
                status=status,
                minute=minute,
                study=of,
                patient=patient,
                filler=f"F{of[-4:]}",
                accession=f"A{of[-4:]}",
                obx=[] if status == "X" else None,
            )
            assert code(ris.ask(message)) == "AA"

        def row() -> Any:
            found = requests.get(f"{stack.web}/api/studies/{query}/similar", params={"anatomy": "pleura"}, timeout=30)
            lines = map(json.loads, found.text.splitlines())
            return next((one for one in lines if one.get("study") == case), None)

        def explains(shared: set[str], contradicting: set[str]) -> bool:
            found = row()
            return found is not None and (
                {note["concept"] for note in found["shared"]} == shared
                and {note["concept"] for note in found["contradicting"]} == contradicting
            )

        told("Large left pleural effusion.", "M1")
        told("Left pleural effusion.", "M2", of_query=True)
        assert stack.status()["waiting_reports"] == 2
        stack.radir("send", str(tmp_path / "images"))
        stack.wait_until_done(2)
        eventually(lambda: explains({"pleural effusion"}, set()), "the reports that came first explain")
        assert stack.status()["waiting_reports"] == 0
        told("No pleural effusion.", "M3", "C", 5)
        eventually(lambda: explains(set(), {"pleural effusion"}), "the correction contradicts")
        told("Large left pleural effusion.", "M4", "P", 9)
        assert explains(set(), {"pleural effusion"}), "a late preliminary one changes nothing"
        assert code(ris.ask(adt("A40", query_patient, case_patient))) == "AA"
        eventually(lambda: row() is None, "the case is the same patient's")
        assert code(ris.ask(adt("A37", query_patient, case_patient, control="ADT2"))) == "AA"
        eventually(lambda: explains(set(), {"pleural effusion"}), "the merge is undone")
        told("", "M5", "X", 12)
        eventually(lambda: explains(set(), set()), "what is cancelled explains nothing")
        assert stack.status()["messages"] == {"STORED": 5, "WAITING": 2}
