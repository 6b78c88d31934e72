"""Storage commitment as SCP: on the peer's association, on ours by a job, over a restart; Orthanc as the peer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.commitment import SOP_INSTANCE, CommitmentResult
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import send_files
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import JobKind, JobState
from radir_workers.report_commitment import ReportCommitment
from radir_workers.runner import Runner
from tests.conftest import free_port
from tests.dicom_files import radiograph, save
from tests.integration.listening import listening, refusals, wait_for
from tests.integration.orthanc import running_orthanc

Listen = Callable[..., Destination]
DX = "1.2.840.10008.5.1.4.1.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True)
class Told:
    """An event report as a peer got it."""

    event_type: int
    information: Dataset

    @property
    def committed(self) -> set[str]:
        return {item.ReferencedSOPInstanceUID for item in self.information.get("ReferencedSOPSequence", [])}

    @property
    def failed(self) -> dict[str, int]:
        items = self.information.get("FailedSOPSequence", [])
        return {item.ReferencedSOPInstanceUID: item.FailureReason for item in items}


class Requestor:
    """A peer that asks for commitment; ``told`` holds what it heard and has answered.

    What is sent by another thread while pynetdicom still answers may hang in it.
    """

    def __init__(self, title: str = "MODALITY", status: int = 0x0000) -> None:
        self.title, self.status = title, status
        self.told: queue.Queue[Told] = queue.Queue()
        self._unanswered: list[Told] = []
        self._handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._on_report), (evt.EVT_PDU_SENT, self._on_sent)]

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        assert isinstance(event.request, N_EVENT_REPORT) and event.request.EventTypeID is not None
        self._unanswered.append(Told(event.request.EventTypeID, event.event_information))
        return self.status, None

    def _on_sent(self, event: evt.Event) -> None:
        if isinstance(event.pdu, P_DATA_TF) and self._unanswered:
            self.told.put(self._unanswered.pop())

    def associate(self, peer: Destination) -> Association:
        ae = AE(ae_title=self.title)
        ae.add_requested_context(StorageCommitmentPushModel)
        ae.add_requested_context(Verification)
        association = ae.associate(peer.host, peer.port, evt_handlers=self._handlers)
        assert association.is_established
        return association

    @contextmanager
    def listening(self) -> Iterator[Destination]:
        """As SCP of event reports on an association of the peer's."""
        ae, port = AE(ae_title=self.title), free_port()
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        ae.start_server(("127.0.0.1", port), block=False, evt_handlers=self._handlers)
        try:
            yield Destination(ae_title=self.title, host="127.0.0.1", port=port)
        finally:
            ae.shutdown()

    def hear(self) -> Told:
        return self.told.get(timeout=60)


def asking(*instances: tuple[str, str], transaction: str | None = None) -> Dataset:
    ds = Dataset()
    ds.TransactionUID = transaction or generate_uid()
    ds.ReferencedSOPSequence = []
    for sop_class, uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def ask(association: Association, information: Dataset, *, action: int = 1, instance: str = SOP_INSTANCE) -> int:
    status, _ = association.send_n_action(information, action, StorageCommitmentPushModel, instance)
    found: int = status.Status
    return found


@pytest.fixture
def stored(
    listen: Listen, settings: Settings, catalogue: Catalogue, blobs: BlobStore, tmp_path: Path
) -> Iterator[tuple[Destination, str]]:
    """A listener that holds one radiograph, and a worker."""
    peer, ds = listen(), radiograph()
    (result,) = send_files([save(ds, tmp_path / "a.dcm")], peer)
    assert result.status == 0x0000
    with working(settings, catalogue, blobs):
        yield peer, str(ds.SOPInstanceUID)


@contextmanager
def working(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> Iterator[None]:
    """A worker that does commitment jobs until the end of the body."""
    stop = threading.Event()
    runner = Runner(
        catalogue, {JobKind.COMMITMENT: ReportCommitment(catalogue, blobs, settings)}, worker="test", lease_s=60
    )

    def serve() -> None:
        while not stop.wait(0.05):
            for job_id in catalogue.jobs.to_announce(10, 0):
                runner.run(job_id)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_all_committed(stored: tuple[Destination, str], catalogue: Catalogue) -> None:
    peer, uid = stored
    requestor = Requestor()
    association = requestor.associate(peer)
    information = asking((DX, uid))
    assert ask(association, information) == 0x0000
    told = requestor.hear()
    assert (told.event_type, told.committed, told.failed) == (1, {uid}, {})
    assert told.information.TransactionUID == information.TransactionUID
    wait_for(lambda: not catalogue.commitments.pending("MODALITY"))
    assert association.send_c_echo().Status == 0x0000  # the association goes on
    association.release()


def test_what_is_not_held_is_named_with_its_reason(
    stored: tuple[Destination, str], catalogue: Catalogue, blobs: BlobStore, listen: Listen, tmp_path: Path
) -> None:
    peer, uid = stored
    lost, missing = radiograph(), generate_uid()
    send_files([save(lost, tmp_path / "lost.dcm")], peer)
    blobs.path(catalogue.instances.get(lost.SOPInstanceUID).content_sha256).unlink()
    requestor = Requestor()
    association = requestor.associate(peer)
    assert ask(association, asking((DX, uid), (DX, missing), (DX, lost.SOPInstanceUID))) == 0
    told = requestor.hear()
    assert (told.event_type, told.committed) == (2, {uid})
    assert told.failed == {missing: 0x0112, lost.SOPInstanceUID: 0x0110}
    assert ask(association, asking((CT, uid))) == 0
    assert requestor.hear().failed == {uid: 0x0119}
    association.release()


def test_a_file_known_as_damaged_is_not_answered_for(stored: tuple[Destination, str], catalogue: Catalogue) -> None:
    """Its size may be right; a peer that is told yes may delete the only good copy."""
    peer, uid = stored
    catalogue.damage.note(catalogue.instances.get(uid).content_sha256)
    requestor = Requestor()
    association = requestor.associate(peer)
    assert ask(association, asking((DX, uid))) == 0
    assert requestor.hear().failed == {uid: 0x0110}
    association.release()


def test_a_flipped_bit_is_not_answered_for(
    stored: tuple[Destination, str], catalogue: Catalogue, blobs: BlobStore
) -> None:
    """Of the right size and not known as damaged: only reading it tells."""
    peer, uid = stored
    path = blobs.path(catalogue.instances.get(uid).content_sha256)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    requestor = Requestor()
    association = requestor.associate(peer)
    assert ask(association, asking((DX, uid))) == 0
    assert requestor.hear().failed == {uid: 0x0110}
    association.release()
    assert [row.sop_uid for row in catalogue.damage.all()] == [uid]


def test_a_request_made_again_while_its_job_runs_is_answered_again(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def report(result: CommitmentResult, *_: object, **__: object) -> None:
        told.append(len(result.failed))
        if len(told) == 1:
            catalogue.commitments.add("1.2.3.4", "CT1", [(DX, "1.2.3"), (DX, "1.2.4")])

    monkeypatch.setattr("radir_workers.report_commitment.report", report)
    named = replace(settings, commitment_destinations=(f"CT1@127.0.0.1:{free_port()}",))
    commitment = catalogue.commitments.add("1.2.3.4", "CT1", [(DX, "1.2.3")])
    assert work(named, catalogue, blobs) is JobState.PENDING
    assert not catalogue.commitments.get(commitment.id).is_reported
    assert work(named, catalogue, blobs) is JobState.DONE
    assert catalogue.commitments.get(commitment.id).is_reported
    assert told == [1, 2]


def test_the_files_are_read_by_a_job_and_not_by_the_listener(
    listen: Listen, catalogue: Catalogue, blobs: BlobStore, tmp_path: Path
) -> None:
    peer, ds = listen(), radiograph()
    send_files([save(ds, tmp_path / "a.dcm")], peer)
    association = Requestor().associate(peer)
    assert ask(association, asking((DX, ds.SOPInstanceUID))) == 0
    association.release()
    (job_id,) = catalogue.jobs.to_announce(10, 0)
    job = catalogue.jobs.get(job_id)
    assert job is not None and job.kind is JobKind.COMMITMENT
    assert catalogue.commitments.get(int(job.key)).failed is None


def test_what_is_no_request_is_refused(stored: tuple[Destination, str], catalogue: Catalogue) -> None:
    peer, uid = stored
    association = Requestor().associate(peer)
    assert ask(association, asking((DX, uid)), action=7) == 0x0123
    assert ask(association, asking((DX, uid)), instance="1.2.3") == 0x0112
    assert ask(association, asking()) == 0x0115
    nothing = Dataset()
    nothing.TransactionUID = "1.2.3"
    assert ask(association, nothing) == 0x0115
    assert not catalogue.commitments.pending("MODALITY")
    association.release()


def test_a_peer_that_hung_up_is_told_when_it_comes_back(stored: tuple[Destination, str], catalogue: Catalogue) -> None:
    peer, uid = stored
    catalogue.commitments.add("1.2.3.4", "MODALITY", [(DX, uid)])
    catalogue.commitments.add("1.2.3.5", "ANOTHER", [(DX, uid)])
    requestor = Requestor()
    association = requestor.associate(peer)
    told = requestor.hear()
    assert (told.information.TransactionUID, told.committed) == ("1.2.3.4", {uid})
    association.release()
    wait_for(lambda: [one.transaction_uid for one in catalogue.commitments.pending("ANOTHER")] == ["1.2.3.5"])
    assert requestor.told.empty()


def test_a_report_that_the_peer_refuses_is_not_forgotten(stored: tuple[Destination, str], catalogue: Catalogue) -> None:
    peer, uid = stored
    requestor = Requestor(status=0x0110)
    association = requestor.associate(peer)
    assert ask(association, asking((DX, uid))) == 0
    requestor.hear()
    association.release()
    assert len(catalogue.commitments.pending("MODALITY")) == 1


def work(settings: Settings, catalogue: Catalogue, blobs: BlobStore) -> JobState:
    """What a worker does with the one commitment job."""
    cases = {JobKind.COMMITMENT: ReportCommitment(catalogue, blobs, settings)}
    (job_id,) = catalogue.jobs.to_announce(10, 0)
    Runner(catalogue, cases, worker="test", lease_s=60).run(job_id)
    job = catalogue.jobs.get(job_id)
    assert job is not None
    return job.state


def test_a_named_peer_is_told_on_an_association_of_ours_over_a_restart(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, tmp_path: Path
) -> None:
    requestor, ds = Requestor("CT1"), radiograph()
    with requestor.listening() as destination:
        named = replace(settings, commitment_destinations=(str(destination),))
        with listening(named, catalogue, blobs) as (peer, _):
            send_files([save(ds, tmp_path / "a.dcm")], peer)
            association = requestor.associate(peer)
            assert ask(association, asking((DX, ds.SOPInstanceUID))) == 0
            association.release()
        with Catalogue.open(named) as after:  # listener and worker are others now
            assert work(named, after, blobs) is JobState.DONE
            told = requestor.hear()
            assert (told.event_type, told.committed) == (1, {ds.SOPInstanceUID})
            assert after.commitments.get(1).is_reported
    assert requestor.told.empty()


def test_a_named_peer_that_does_not_answer_is_tried_again_then_told_of(
    settings: Settings, catalogue: Catalogue, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = replace(settings, commitment_destinations=(f"CT1@127.0.0.1:{free_port()}",))
    monkeypatch.setattr("radir_pacs.catalogue.commitments.REPORT_ATTEMPTS", 2)
    monkeypatch.setattr("radir_pacs.catalogue.jobs.BACKOFF_S", 0.0)
    catalogue.commitments.add("1.2.3.4", "CT1", [(DX, "1.2.3")])
    assert work(named, catalogue, blobs) is JobState.PENDING
    assert refusals(catalogue) == []
    assert work(named, catalogue, blobs) is JobState.FAILED
    (reason,) = refusals(catalogue)
    assert "commitment_destinations" in reason
    assert not catalogue.commitments.get(1).is_reported


def test_an_action_as_large_as_memory_is_ended(stored: tuple[Destination, str], catalogue: Catalogue) -> None:
    peer, _ = stored
    association = Requestor().associate(peer)
    ds = asking((DX, "1.2.3"))
    ds.add_new(0x00091010, "OB", bytes(12 << 20))
    ds.add_new(0x00090010, "LO", "X")
    status, _ = association.send_n_action(ds, 1, StorageCommitmentPushModel, SOP_INSTANCE)
    assert "Status" not in status
    wait_for(lambda: [r for r in refusals(catalogue) if "not a DIMSE message" in r])


def test_orthanc_asks_and_is_told(settings: Settings, catalogue: Catalogue, blobs: BlobStore, tmp_path: Path) -> None:
    """Orthanc is told on an association of ours, as it wants it."""
    dicom_port = free_port()
    named = replace(settings, commitment_destinations=(f"ORTHANC@127.0.0.1:{dicom_port}",))
    path = save(radiograph(), tmp_path / "a.dcm")
    with (
        listening(named, catalogue, blobs) as (peer, _),
        running_orthanc(
            tmp_path / "orthanc",
            plugins=(),
            DicomServerEnabled=True,
            DicomPort=dicom_port,
            DicomModalities={"radir": {"AET": peer.ae_title, "Host": peer.host, "Port": peer.port}},
            DicomModalitiesInDatabase=False,
            DicomCheckModalityHost=True,  # it binds all addresses, and answers us alone
            DicomAlwaysAllowEcho=False,
            DicomAlwaysAllowStore=False,
        ) as orthanc,
    ):
        study = orthanc.store(path)
        assert orthanc.send("radir", [study])["State"] == "Success"
        transaction = orthanc.post("/modalities/radir/storage-commitment", {"Resources": [study]})["ID"]
        wait_for(lambda: catalogue.jobs.to_announce(10, 0))
        assert work(named, catalogue, blobs) is JobState.DONE
        wait_for(lambda: orthanc.get(f"/storage-commitment/{transaction}")["Status"] != "Pending")
        found = orthanc.get(f"/storage-commitment/{transaction}")
        assert (found["Status"], found["Failures"]) == ("Success", []), found
