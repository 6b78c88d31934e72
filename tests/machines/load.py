"""Load on an installation from outside: a modality that sends studies, and a reader who asks for similar cases.

Both note what they were told, so that it can be held against what is there at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import requests

from radir_pacs.delivery import send
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.dicom_json import PRIVATE_TAGS
from radir_pacs.errors import RadirError
from tests.dicom_files import radiograph, save

_NETWORK_S = 4  # until the modality gives up an association that is silent, and begins another
_LAST_TRIES = 50
ANSWER_S = 20.0  # until the reader gives up a request that is silent


def new_radiograph(number: int, folder: Path) -> tuple[str, str, Path]:
    """Study UID, SOP Instance UID and file of a radiograph of a patient of its own."""
    study, sop = f"2.25.7{number:06}", f"2.25.7{number:06}.1.1"
    picture = np.random.default_rng(number).integers(0, 4096, (96, 96)).astype(np.uint16)
    ds = radiograph(
        StudyInstanceUID=study,
        SeriesInstanceUID=f"{study}.1",
        SOPInstanceUID=sop,
        PatientID=f"LOAD-{number}",
        Rows=96,
        Columns=96,
        PixelData=picture.tobytes(),
    )
    return study, sop, save(ds, folder / f"{number}.dcm")


@dataclass
class Modality:
    """Sends up to ``most`` studies one after another, each until it is acknowledged, about ``rate_hz`` of them."""

    peer: Destination
    folder: Path
    rate_hz: float
    most: int
    acknowledged: dict[str, tuple[str, Path, float]] = field(default_factory=dict)  # by study: SOP UID, file, when
    refusals: list[tuple[float, str]] = field(default_factory=list)  # when, and with what words

    def run(self, done: threading.Event) -> None:
        for number in range(self.most):
            if done.wait(1 / self.rate_hz):
                return
            self.send(number, done)

    def send(self, number: int, done: threading.Event) -> None:
        study, sop, path = new_radiograph(number, self.folder)
        tries_left = _LAST_TRIES
        while tries_left:  # what was stored must be known, so it is not left when ``done`` is set
            tries_left -= done.is_set()
            try:
                with mock.patch.object(send, "_TIMEOUT_S", _NETWORK_S), mock.patch.object(send, "_RESTART_S", 0.0):
                    [result] = send.send_files([path], self.peer)
                said = result.reason
            except RadirError as error:  # nobody listens at the moment
                said = str(error)
            if not said:
                self.acknowledged[study] = (sop, path, time.monotonic())
                return
            self.refusals.append((time.monotonic(), said))
            time.sleep(0.2)

    def send_all(self, numbers: Iterable[int]) -> None:
        """By one association, while nothing fails."""
        made = {path: (study, sop) for study, sop, path in (new_radiograph(number, self.folder) for number in numbers)}
        for result in send.send_files(list(made), self.peer):
            assert not result.reason, result.reason
            study, sop = made[result.path]
            self.acknowledged[study] = (sop, result.path, time.monotonic())


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``status``: 0 where nobody answered. ``exact``: no graph and no engine named candidates."""

    began: float  # monotonic
    seconds: float
    status: int
    code: str = ""
    words: str = ""
    retry_after: str | None = None
    cases: dict[str, float] = field(default_factory=dict)  # score by study
    model: str = ""
    generation: str = ""
    exact: bool = True

    @property
    def ended(self) -> float:
        return self.began + self.seconds


@dataclass
class Reader:
    """Asks for the cases similar to one study, again and again."""

    url: str
    token: str
    pause_s: float
    answers: list[Answer] = field(default_factory=list)

    def run(self, done: threading.Event) -> None:
        while not done.wait(self.pause_s):
            self.answers.append(self.ask())

    def ask(self) -> Answer:
        began = time.monotonic()
        try:
            told = requests.get(self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=(3, ANSWER_S))
        except requests.RequestException as error:
            return Answer(began=began, seconds=time.monotonic() - began, status=0, code=type(error).__name__)
        seconds = time.monotonic() - began
        if told.status_code not in (200, 204):
            refusal = told.json()["error"]
            return Answer(
                began=began,
                seconds=seconds,
                status=told.status_code,
                code=refusal["code"],
                words=refusal["message"],
                retry_after=told.headers.get("Retry-After"),
            )
        rows = told.json() if told.content else []
        said = {tuple(_value(row, name) for name in ("model_id", "generation", "search")) for row in rows}
        assert len(said) <= 1, "all rows of an answer are of one model and one generation (P5)"
        model, generation, search = said.pop() if said else ("", "", "EXACT")
        return Answer(
            began=began,
            seconds=seconds,
            status=200,
            cases={row["0020000D"]["Value"][0]: _value(row, "score") for row in rows},
            model=model,
            generation=generation,
            exact=search == "EXACT",
        )


def _value(row: Any, name: str) -> Any:
    return row[PRIVATE_TAGS[name]].get("Value", [""])[0]
