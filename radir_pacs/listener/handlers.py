"""Handlers for the events of an association. No data set is decoded here; bytes are kept as received."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.pdu import A_ABORT_RQ

from radir_pacs.errors import StorageFailed
from radir_pacs.intake.instances import OUT_OF_RESOURCES, Intake, StoreOutcome
from radir_pacs.listener.admission import host_of
from radir_pacs.listener.bounds import BoundedSocket, Ending
from radir_pacs.listener.commitment import StorageCommitment
from radir_pacs.listener.instance_file import InstanceFile
from radir_pacs.listener.refused import RefusalLog, Refused
from radir_pacs.storage.blobs import BlobStore

log = logging.getLogger(__name__)

_PREAMBLE_BYTES = 132
_P_DATA_TF = b"\x04"  # PS3.8 9.3.5


@dataclass
class _Sent:
    """Data set bytes of the message being received, and of each complete message that waits to be stored."""

    counting: int = 0
    whole: deque[int] = field(default_factory=deque)


class Handlers:
    """Bound to every association of one server."""

    def __init__(self, intake: Intake, blobs: BlobStore, refusals: RefusalLog, commitment: StorageCommitment) -> None:
        self._intake, self._blobs, self._refusals, self._commitment = intake, blobs, refusals, commitment

    def bindings(self) -> list[Any]:
        return [
            (evt.EVT_C_ECHO, self.on_echo),
            (evt.EVT_C_STORE, self.on_store),
            (evt.EVT_N_ACTION, self._commitment.on_action),
            (evt.EVT_DIMSE_SENT, self.on_answered),
            (evt.EVT_DATA_RECV, self.on_data),
            (evt.EVT_PDU_RECV, self.on_pdu),
            (evt.EVT_CONN_CLOSE, self.on_close),
        ]

    def on_echo(self, event: evt.Event) -> int:
        return 0x0000

    def on_data(self, event: evt.Event) -> None:
        """Count the data set bytes sent, to compare them with those on disk (pynetdicom issue 765)."""
        data: bytes = event.data
        if data[:1] != _P_DATA_TF:
            return
        sent = _sent(event.assoc)
        at = 6
        while at + 6 <= len(data):
            item_bytes = int.from_bytes(data[at : at + 4], "big")
            control = data[at + 5]  # PS3.8 E.2: bit 0 command, bit 1 last fragment
            if not control & 1:
                sent.counting += item_bytes - 2
                if control & 2:
                    sent.whole.append(sent.counting)
                    sent.counting = 0
            at += 4 + max(item_bytes, 1)

    def on_answered(self, event: evt.Event) -> None:
        sock = event.assoc.dul.socket
        if isinstance(sock, BoundedSocket):
            sock.message_done()

    def on_pdu(self, event: evt.Event) -> None:
        """Keep the reason that a peer's A-ABORT gives for ``on_close``."""
        if isinstance(event.pdu, A_ABORT_RQ) and isinstance(event.assoc.dul.socket, BoundedSocket):
            sock = event.assoc.dul.socket
            if sock.ending is None:
                codes = f"source {event.pdu.source}, reason {event.pdu.reason_diagnostic}"
                sock.ending = Ending(what=f"the peer aborted the association ({codes})", advice="its log says why")

    def on_close(self, event: evt.Event) -> None:
        """Remove the partial file of an incomplete message, and record why the association ended without a release."""
        message = event.assoc.dimse.message
        file = getattr(message, "_data_set_file", None)
        if file is not None:
            file.close()
            Path(file.name).unlink(missing_ok=True)
        sock = event.assoc.dul.socket
        if not isinstance(sock, BoundedSocket) or event.assoc.is_released:
            return
        ending = sock.ending
        if ending is None and message is not None:
            ending = Ending(
                what="the connection was lost in the middle of a message", advice="look at the network and the sender"
            )
        calling_ae, host = _calling_ae(event), host_of(event.assoc)
        if ending is None:
            log.info("the peer disconnected without a release", extra={"calling_ae": calling_ae, "address": host})
            return
        self._refusals.note(
            Refused(address=host, calling_ae=calling_ae, what=f"association ended, {ending.what}", advice=ending.advice)
        )

    def on_store(self, event: evt.Event) -> Dataset:
        """Answer a C-STORE (PS3.7 9.3.1) once the instance is durable, or with the status that says why not."""
        sent = _sent(event.assoc).whole
        expected = sent.popleft() if sent else 0
        source = _calling_ae(event)
        request: Any = event.request
        file: InstanceFile = request._dataset_file
        sop_uid = str(request.AffectedSOPInstanceUID or "")
        try:
            outcome = self._store(event, file, expected, source, sop_uid)
        except Exception as error:  # the edge of a process: the peer gets a failure and keeps its copy
            log.exception("store failed", extra={"error": type(error).__name__})
            outcome = StoreOutcome(status=OUT_OF_RESOURCES, reason="storing failed")
        finally:
            if file.name:
                Path(file.name).unlink(missing_ok=True)
        log.info(
            "C-STORE",
            extra={"sop_uid": outcome.sop_uid, "study_uid": outcome.study_uid, "status": f"{outcome.status:04X}"},
        )
        return _answer(outcome)

    def _store(self, event: evt.Event, file: InstanceFile, expected: int, source: str, sop_uid: str) -> StoreOutcome:
        file.close()
        if file.failure is not None:
            return self._intake.refuse(file.failure, source=source, sop_uid=sop_uid or None)
        path = Path(file.name)
        found = path.stat().st_size - _meta_bytes(path)
        if found != expected:
            error = StorageFailed(f"{expected} bytes were sent and {found} written")
            return self._intake.refuse(error, source=source, sop_uid=None)
        with self._blobs.adopt(path) as incoming:
            return self._intake.store(
                incoming, source=source, sop_class_uid=str(event.request.AffectedSOPClassUID or ""), sop_uid=sop_uid
            )


def _calling_ae(event: evt.Event) -> str:
    return str(event.assoc.requestor.ae_title).strip()


def _sent(assoc: Any) -> _Sent:
    if not hasattr(assoc, "radir_sent"):
        assoc.radir_sent = _Sent()
    sent: _Sent = assoc.radir_sent
    return sent


def _meta_bytes(path: Path) -> int:
    """The length of preamble, prefix and file meta group: (0002,0000) says it (PS3.10 7.1)."""
    with path.open("rb") as file:
        head = file.read(_PREAMBLE_BYTES + 12)
    return _PREAMBLE_BYTES + 12 + int.from_bytes(head[-4:], "little")


def _answer(outcome: StoreOutcome) -> Dataset:
    """The status, and the reason as Error Comment (0000,0902): 64 ASCII characters, PS3.7 C.4.2."""
    answer = Dataset()
    answer.Status = outcome.status
    if not outcome.ok:
        answer.ErrorComment = outcome.reason.encode("ascii", "replace").decode().replace("\\", "/")[:64]
    return answer
