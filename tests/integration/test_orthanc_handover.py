"""A real Orthanc with the plugin, our web service, and a DICOM peer before our intake that fails as peers do.

Handed over is what we hold, whatever Orthanc's jobs say: in 1.10 a Permissive one is a success with nobody listening.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from radir_pacs.intake.bounded_answer import AnswerBounds
from radir_pacs.intake.instances import Intake
from radir_pacs.intake.sources import Pacs, Sources
from radir_pacs.types import JobKind, StudyState
from radir_workers.pull_study import PullStudy
from radir_workers.runner import Runner
from tests.acceptance.orthanc_house import orthanc_with_plugin, wait_for_queue
from tests.conftest import free_port
from tests.dicom_files import DX, radiograph, save
from tests.integration.conftest import Web

INSTANCES = 5
OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC000


class Peer:
    """A DICOM peer before our intake. ``answers``: a status by SOP Instance UID, in place of storing; "all" for any."""

    def __init__(self, web: Web) -> None:
        self.answers: dict[str, int] = {}
        self.got: Counter[str] = Counter()  # every C-STORE
        self._web = web
        self._intake = Intake(web.catalogue, web.blobs, web.settings)

    def store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        self.got[uid] += 1
        status = self.answers.get(uid, self.answers.get("all"))
        if status is not None:
            return status
        ds = event.dataset
        ds.file_meta = event.file_meta
        with self._web.blobs.incoming() as incoming, BytesIO() as file:
            pydicom.dcmwrite(file, ds, enforce_file_format=True)
            incoming.write(file.getvalue())
            return self._intake.store(incoming, source="ORTHANC").status

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        ae = AE(ae_title="RADIR")
        ae.add_supported_context(DX)
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)])
        assert server is not None
        try:
            yield
        finally:
            server.shutdown()


@pytest.fixture
def peer(web: Web) -> Peer:
    return Peer(web)


def study_of(folder: Path, count: int = INSTANCES) -> tuple[str, list[str], list[Path]]:
    """(study UID, SOP UIDs, files) of a study of radiographs."""
    folder.mkdir(exist_ok=True)
    study, series = generate_uid(), generate_uid()
    images = [radiograph(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n) for n in range(count)]
    files = [save(ds, folder / f"{number}.dcm") for number, ds in enumerate(images)]
    return study, [str(ds.SOPInstanceUID) for ds in images], files


def attempts(folder: Path) -> int:
    """How often the plugin has tried to hand over what is waiting."""
    with closing(sqlite3.connect(folder / "storage" / "radir-queue.sqlite")) as queue:
        return int(queue.execute("SELECT coalesce(max(attempts), 0) FROM waiting").fetchone()[0])


def eventually(what: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.mark.parametrize("fault", ["nobody listens", "out of resources"])
def test_a_peer_that_fails_three_times_loses_no_study(fault: str, web: Web, peer: Peer, tmp_path: Path) -> None:
    study, uids, files = study_of(tmp_path / "files")
    port = free_port()
    with orthanc_with_plugin(tmp_path / "o", web_port=web.settings.web_port, listener_port=port) as orthanc:
        for file in files:
            orthanc.store(file)
        if fault == "nobody listens":
            eventually(lambda: attempts(tmp_path / "o") >= 3)
        else:
            peer.answers["all"] = OUT_OF_RESOURCES
            with peer.listening(port):
                eventually(lambda: attempts(tmp_path / "o") >= 3)
            assert peer.got, "it was asked"
        queue = orthanc.get("/radir/status")["queue"]
        assert (queue["waiting"], queue["handed_over"]) == (1, 0)
        assert queue["last_error"]
        peer.answers.clear()
        with peer.listening(port):
            wait_for_queue(orthanc, waiting=0, handed_over=1)
    assert web.catalogue.instances.sop_uids_of(study) == sorted(uids)


def test_half_a_study_is_not_a_study_and_what_came_is_not_sent_twice(web: Web, peer: Peer, tmp_path: Path) -> None:
    """One instance is refused; the others come once each; a kill of Orthanc in between forgets nothing of that."""
    study, uids, files = study_of(tmp_path / "files")
    refused = uids[2]
    peer.answers[refused] = CANNOT_UNDERSTAND
    port, folder = free_port(), tmp_path / "o"
    with peer.listening(port):
        with orthanc_with_plugin(folder, web_port=web.settings.web_port, listener_port=port) as orthanc:
            for file in files:
                orthanc.store(file)
            eventually(lambda: len(web.catalogue.instances.sop_uids_of(study)) == INSTANCES - 1)
            eventually(lambda: "1 of 5" in (orthanc.get("/radir/status")["queue"]["last_error"] or ""))
            wait_for_queue(orthanc, waiting=1, handed_over=0)
            orthanc.process.kill()
        peer.answers.clear()
        with orthanc_with_plugin(folder, web_port=web.settings.web_port, listener_port=port) as orthanc:
            wait_for_queue(orthanc, waiting=0, handed_over=1)
    assert web.catalogue.instances.sop_uids_of(study) == sorted(uids)
    assert {peer.got[uid] for uid in uids if uid != refused} == {1}, "what we hold is not sent again"


def test_a_peer_that_says_success_and_keeps_nothing_is_not_believed(web: Web, peer: Peer, tmp_path: Path) -> None:
    """Like a router that answers before it has passed anything on."""
    study, uids, files = study_of(tmp_path / "files", 2)
    peer.answers["all"] = 0x0000
    port = free_port()
    with (
        peer.listening(port),
        orthanc_with_plugin(tmp_path / "o", web_port=web.settings.web_port, listener_port=port) as orthanc,
    ):
        for file in files:
            orthanc.store(file)
        eventually(lambda: "lacks 2 of 2" in (orthanc.get("/radir/status")["queue"]["last_error"] or ""))
        wait_for_queue(orthanc, waiting=1, handed_over=0)
        peer.answers.clear()
        wait_for_queue(orthanc, waiting=0, handed_over=1)
    assert web.catalogue.instances.sop_uids_of(study) == sorted(uids)


def test_an_instance_that_was_overwritten_in_orthanc_is_sent_again(web: Web, peer: Peer, tmp_path: Path) -> None:
    """It keeps its ids, in Orthanc as in DICOM; what we do with it is another matter."""
    _, (uid,), (file,) = study_of(tmp_path / "files", 1)
    port = free_port()
    with (
        peer.listening(port),
        orthanc_with_plugin(
            tmp_path / "o", web_port=web.settings.web_port, listener_port=port, orthanc={"OverwriteInstances": True}
        ) as orthanc,
    ):
        orthanc.store(file)
        wait_for_queue(orthanc, waiting=0, handed_over=1)
        assert peer.got[uid] == 1
        ds = pydicom.dcmread(file)
        ds.StudyDescription = "corrected"
        orthanc.store(save(ds, tmp_path / "corrected.dcm"))
        eventually(lambda: peer.got[uid] == 2)


def pulling(web: Web, url: str, bounds: AnswerBounds) -> Callable[[], None]:
    """One attempt of each pull that waits, as the transfer process makes it."""
    intake = Intake(web.catalogue, web.blobs, web.settings)
    use_case = PullStudy(
        web.catalogue, web.blobs, intake, Sources(default=Pacs(url=url)), bounds, most_instance_bytes=1 << 22
    )
    runner = Runner(web.catalogue, {JobKind.PULL: use_case}, worker="test", lease_s=60)

    def attempt() -> None:
        for job_id in web.catalogue.jobs.to_announce(9, kinds=(JobKind.PULL,)):
            runner.run(job_id)

    return attempt


def test_a_pull_that_fails_is_asked_for_again(serve: Callable[..., Web], tmp_path: Path) -> None:
    study, uids, files = study_of(tmp_path / "files", 3)
    port = free_port()
    url = f"http://127.0.0.1:{port}/dicom-web"
    web = serve(pull_url=url)
    narrow = AnswerBounds(most_bytes=500, least_bytes_s=0, deadline_s=30)  # less than the first instance
    wide = AnswerBounds(most_bytes=1 << 22, least_bytes_s=0, deadline_s=30)
    with orthanc_with_plugin(tmp_path / "o", web_port=web.settings.web_port, port=port, Forward="pull") as orthanc:
        for file in files:
            orthanc.store(file)
        fail = pulling(web, url, narrow)

        def failed() -> bool:
            fail()
            return "PEER_TOO_LARGE" in (orthanc.get("/radir/status")["queue"]["last_error"] or "")

        eventually(failed)
        assert web.catalogue.instances.sop_uids_of(study) == []
        queue = orthanc.get("/radir/status")["queue"]
        assert (queue["waiting"], queue["handed_over"]) == (1, 0)
        attempt = pulling(web, url, wide)

        def handed_over() -> bool:
            attempt()
            return orthanc.get("/radir/status")["queue"]["handed_over"] == 1

        eventually(handed_over)
    assert web.catalogue.instances.sop_uids_of(study) == sorted(uids)
    assert web.catalogue.studies.get(study).state is StudyState.STABLE


@pytest.mark.parametrize("meaning", ["keep", "follow"])
def test_a_deletion_in_orthanc_means_what_is_set(meaning: str, web: Web, peer: Peer, tmp_path: Path) -> None:
    kept, _, kept_files = study_of(tmp_path / "kept", 1)
    deleted, _, deleted_files = study_of(tmp_path / "deleted", 2)
    port = free_port()
    with (
        peer.listening(port),
        orthanc_with_plugin(
            tmp_path / "o",
            web_port=web.settings.web_port,
            listener_port=port,
            Deletions=meaning,
            DeletionGraceHours=0.0005,
        ) as orthanc,
    ):
        for file in (*kept_files, *deleted_files):
            orthanc.store(file)
        wait_for_queue(orthanc, waiting=0, handed_over=2)
        gone = orthanc.study_of(deleted)
        orthanc.ask("DELETE", f"/studies/{gone}")
        if meaning == "follow":
            eventually(lambda: web.catalogue.instances.sop_uids_of(deleted) == [])
            wait_for_queue(orthanc, waiting=0, handed_over=1)
        else:  # two more looks at the log of changes, which the next study shows
            _, _, (later,) = study_of(tmp_path / "later", 1)
            orthanc.store(later)
            wait_for_queue(orthanc, waiting=0, handed_over=3)
            assert len(web.catalogue.instances.sop_uids_of(deleted)) == 2
    assert len(web.catalogue.instances.sop_uids_of(kept)) == 1


def test_jobs_in_orthanc_are_few_when_nobody_is_there(tmp_path: Path) -> None:
    """With neither service nor listener, the service is asked first, and no C-STORE job is created in vain."""
    _, _, files = study_of(tmp_path / "files", 2)
    with orthanc_with_plugin(tmp_path / "o", web_port=free_port(), listener_port=free_port()) as orthanc:
        for file in files:
            orthanc.store(file)
        eventually(lambda: attempts(tmp_path / "o") >= 2)
        assert orthanc.get("/jobs") == []


def test_the_service_says_what_it_holds(web: Web) -> None:
    ds = radiograph()
    web.store(ds)
    url = f"{web.root}/api/studies/{ds.StudyInstanceUID}/instances"
    told: dict[str, Any] = requests.get(url, timeout=30).json()
    assert told == {"study": ds.StudyInstanceUID, "instances": [ds.SOPInstanceUID]}
