"""kill -9 of any process of the running stack, its Postgres too, while a hospital is sent and encoded.

The sender does what a PACS does: it sends again what was not acknowledged. At the end nothing that was acknowledged is
missing, nothing is stored twice, and the answers are those of an undisturbed run.
"""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import send_files
from radir_pacs.errors import RadirError, StorageFailed
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import StudyState
from tests.catalogue_material import owners
from tests.hospital_material import of_patients, usual_hospital
from tests.stack import Stack, running_stack

VICTIMS = ("listener", "postgres", "worker", "relay", "web", "transfer", "listener", "postgres", "worker")
LIMIT_S = 240.0
SETTINGS = {"job_lease_s": "3", "job_max_attempts": "50", "quiet_period_s": "1"}
REGIONS = ("lungs", "right_lower_lobe", "chest")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[dict[str, Any]]]:
    """The files of a small synthetic hospital, and the truth of its studies."""
    folder, studies = usual_hospital(tmp_path_factory)
    studies = of_patients(studies, 3)
    return [folder / file for study in studies for file in study["files"]], studies


@contextmanager
def catalogue_of(stack: Stack) -> Iterator[tuple[Catalogue, BlobStore]]:
    settings = config.load(environ=stack.environment)
    with Catalogue.open(settings) as catalogue:
        yield catalogue, BlobStore(settings.home / "blobs")


def send_until_acknowledged(stack: Stack, files: list[Path], done: threading.Event) -> None:
    """Send every file, a few at a time, and those that were not acknowledged again."""
    peer = Destination(ae_title="RADIR", host="127.0.0.1", port=stack.listener_port)
    left = list(files)
    while left and not done.is_set():
        batch, left = left[:10], left[10:]
        try:
            left += [result.path for result in send_files(batch, peer) if result.reason]
        except RadirError:  # nobody listens at the moment
            left += batch
            done.wait(0.1)


def wait_until_indexed(catalogue: Catalogue, studies: int) -> None:
    """Without `radir status`, whose start would bring the database back itself."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found: Any = None
        try:
            found = catalogue.overview()
            if found.studies == {StudyState.INDEXED: studies} and found.oldest_open_job_s is None:
                return
        except StorageFailed as error:
            found = error
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def data_set(path: Path) -> bytes:
    """The bytes behind preamble, prefix and file meta group: what a sender sends (PS3.10 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def answers(stack: Stack, studies: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """The ranked studies and scores for each study and a few regions, as DICOMweb gives them."""
    found = {}
    for study in studies:
        for region in REGIONS:
            url = f"{stack.web}/dicom-web/studies/{study['study_uid']}/similar?anatomy={region}&limit=50"
            with urllib.request.urlopen(url, timeout=30) as answer:
                rows = json.loads(answer.read() or b"[]")
            found[study["study_uid"], region] = [
                (row["0020000D"]["Value"][0], round(row["00991001"]["Value"][0], 4)) for row in rows
            ]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, hospital: Any) -> Any:
    """The answers of a run in which no process is killed."""
    files, studies = hospital
    with running_stack(tmp_path_factory.mktemp("undisturbed"), **SETTINGS) as stack, catalogue_of(stack) as (known, _):
        send_until_acknowledged(stack, files, threading.Event())
        wait_until_indexed(known, len(studies))
        return answers(stack, studies)


def test_killing_anything_at_any_moment_loses_nothing_and_doubles_nothing(
    tmp_path: Path, hospital: Any, undisturbed: Any
) -> None:
    files, studies = hospital
    chance, killed, done = random.Random(5), Counter[str](), threading.Event()
    with running_stack(tmp_path / "home", **SETTINGS) as stack, catalogue_of(stack) as (catalogue, blobs):
        sender = threading.Thread(target=send_until_acknowledged, args=(stack, files, done))
        sender.start()
        try:
            for victim in VICTIMS:
                done.wait(chance.uniform(0.2, 2.5))
                killed[victim] += stack.kill(victim)
            sender.join(LIMIT_S)
            assert not sender.is_alive(), "the sender never got rid of its files"
            wait_until_indexed(catalogue, len(studies))
        finally:
            done.set()
            sender.join()

        for path in files:
            stored = catalogue.instances.get(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID))
            assert data_set(blobs.path(stored.content_sha256)) == data_set(path)
        assert sum(len(catalogue.instances.of_study(study["study_uid"])) for study in studies) == len(files)
        live = [
            owner.study.study_uid
            for kind in ("ct", "cxr")
            for model in catalogue.overview().encodings
            if model.startswith(kind)
            for owner in owners(catalogue, catalogue.encodings.changes(model, "chest").ids).values()
        ]
        assert sorted(live) == sorted(study["study_uid"] for study in studies), "each is searchable exactly once"
        assert answers(stack, studies) == undisturbed

        # whoever was killed last may still be pausing before its start, or starting
        status = stack.wait(lambda found: {process["state"] for process in found["processes"]} == {"UP"})
        restarts = {process["name"]: process["restarts"] for process in status["processes"]}
        restarts["postgres"] = status["database_restarts"]
        assert all(killed.values()), f"each was alive to be killed: {killed}"
        assert all(restarts[name] >= count for name, count in killed.items()), (restarts, killed)
