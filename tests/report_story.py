"""The life of a report beside a running stack: before its images, corrected, its patient merged and not, cancelled.

After each step the similar cases of the query are asked as a sidebar asks, until they say the right thing.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import requests

from tests.hl7_material import Peer, adt, code, oru
from tests.stack import Stack

Hospital = tuple[Path, list[dict[str, Any]]]
BOUND_S = 60.0  # on a machine that others use; benchmarks/speed/report_story.py measures how long it takes
REGION = "pleura"


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


class Story:
    """A query and a case, whose reports ``ris`` sends to ``stack``."""

    def __init__(self, stack: Stack, ris: Peer, hospital: Hospital, images: Path) -> None:
        self._stack, self._ris, self._images = stack, ris, images
        (self._query, self._query_patient), (self._case, self._case_patient) = two_patients(hospital, images)

    def tell(self) -> Iterator[tuple[str, float]]:
        """Each step, and how many seconds after its message was acknowledged the similar cases say the right thing.

        Of the first step: how many after the case is found at all. Raises AssertionError when they never say it.
        """
        self._report("Large left pleural effusion.", "M1")
        self._report("Left pleural effusion.", "M2", of_query=True)
        assert self._stack.status()["waiting_reports"] == 2
        self._stack.json("send", str(self._images))
        self._until_true(lambda: bool(self._rows()), 2 * BOUND_S)
        yield "reports before their images, then the images", self._until({"pleural effusion"}, set())
        self._stack.wait_until_done(2)
        assert self._stack.status()["waiting_reports"] == 0
        self._report("No pleural effusion.", "M3", "C", 5)
        yield "correction: the case contradicts", self._until(set(), {"pleural effusion"})
        self._report("Large left pleural effusion.", "M4", "P", 9)
        assert self._says(set(), {"pleural effusion"}), "a late preliminary one changes nothing"
        self._message(adt("A40", self._query_patient, self._case_patient))
        yield "merge: the case is the same patient's, and gone", self._until(None, None)
        self._message(adt("A37", self._query_patient, self._case_patient, control="ADT2"))
        yield "the merge is undone: the case is back", self._until(set(), {"pleural effusion"})
        self._report("", "M5", "X", 12)
        yield "cancellation: nothing is explained", self._until(set(), set())
        assert self._stack.status()["messages"] == {"STORED": 5, "WAITING": 2}

    def _report(self, text: str, control: str, status: str = "F", minute: int = 0, *, of_query: bool = False) -> None:
        study, patient = (self._query, self._query_patient) if of_query else (self._case, self._case_patient)
        message = oru(
            text,
            control=control,
            status=status,
            minute=minute,
            study=study,
            patient=patient,
            filler=f"F{study[-4:]}",
            accession=f"A{study[-4:]}",
            obx=[] if status == "X" else None,
        )
        self._message(message)

    def _message(self, raw: bytes) -> None:
        assert code(self._ris.ask(raw)) == "AA"

    def _rows(self) -> list[Any] | None:
        """What is said of the case: one row, or none; None while the query cannot be answered."""
        url = f"{self._stack.web}/api/studies/{self._query}/similar"
        answer = requests.get(url, params={"anatomy": REGION}, timeout=60)
        if answer.status_code != 200:
            return None
        return [one for one in map(json.loads, answer.text.splitlines()) if one.get("study") == self._case]

    def _says(self, shared: set[str] | None, contradicting: set[str] | None) -> bool:
        """Whether the case is explained by these concepts; None: whether it is no case at all."""
        found = self._rows()
        if shared is None or contradicting is None:
            return found == []
        if not found:
            return False
        explained = [{note["concept"] for note in found[0][kind]} for kind in ("shared", "contradicting")]
        return explained == [shared, contradicting]

    def _until(self, shared: set[str] | None, contradicting: set[str] | None) -> float:
        return self._until_true(lambda: self._says(shared, contradicting), BOUND_S)

    @staticmethod
    def _until_true(condition: Callable[[], bool], seconds: float) -> float:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, "the cases do not say what was said last"
            time.sleep(0.1)
        return time.monotonic() - began
