"""What happens on each event of an association. No data set is decoded here; bytes are kept as received."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import evt

from radir_pacs.errors import StorageFailed
from radir_pacs.intake.instances import OUT_OF_RESOURCES, Intake, StoreOutcome
from radir_pacs.listener.bounds import BoundedSocket
from radir_pacs.storage.blobs import BlobStore

log = logging.getLogger(__name__)

_PREAMBLE_BYTES = 132
_P_DATA_TF = b"\x04"  # PS3.8 9.3.5


@dataclass
class _Sent:
    """Data set bytes of the message that is arriving, and of those that arrived whole and wait to be stored."""

    counting: int = 0
    whole: deque[int] = field(default_factory=deque)


class Handlers:
    """Bound to every association of one server."""

    def __init__(self, intake: Intake, blobs: BlobStore) -> None:
        self._intake, self._blobs = intake, blobs

    def bindings(self) -> list[Any]:
        return [
            (evt.EVT_C_ECHO, self.on_echo),
            (evt.EVT_C_STORE, self.on_store),
            (evt.EVT_DIMSE_SENT, self.on_answered),
            (evt.EVT_DATA_RECV, self.on_data),
            (evt.EVT_CONN_CLOSE, self.on_close),
        ]

    def on_echo(self, event: evt.Event) -> int:
        return 0x0000

    def on_data(self, event: evt.Event) -> None:
        """Count the data set bytes the peer sent: what is on the disk is held against it (pynetdicom issue 765)."""
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

    def on_close(self, event: evt.Event) -> None:
        """A message that ended half-way leaves a part of a file: nothing was promised, nothing is kept."""
        if event.assoc.requestor.primitive is None:  # before A-ASSOCIATE-RQ: end the wait for one, free the slot
            event.assoc.dul.to_user_queue.put(None)
        message = event.assoc.dimse.message
        path = getattr(message, "_data_set_path", None)
        if path is not None:
            Path(path).unlink(missing_ok=True)
        sock = event.assoc.dul.socket
        if isinstance(sock, BoundedSocket) and sock.refusal:
            source = str(event.assoc.requestor.ae_title).strip()
            self._intake.refuse(sock.refusal, source=source, sop_uid=None)

    def on_store(self, event: evt.Event) -> Dataset:
        """Answer a C-STORE (PS3.7 9.3.1) once the instance is durable, or with the status that says why not."""
        path = event.dataset_path
        sent = _sent(event.assoc).whole
        expected = sent.popleft() if sent else 0
        source = str(event.assoc.requestor.ae_title).strip()
        request: Any = event.request
        sop_uid = str(request.AffectedSOPInstanceUID or "")
        try:
            outcome = self._store(event, path, expected, source, sop_uid)
        except Exception as error:  # the edge of a process: the peer gets a failure and keeps its copy
            log.exception("store failed", extra={"error": type(error).__name__})
            outcome = StoreOutcome(status=OUT_OF_RESOURCES, reason="storing failed")
        finally:
            path.unlink(missing_ok=True)
        log.info(
            "C-STORE",
            extra={"sop_uid": outcome.sop_uid, "study_uid": outcome.study_uid, "status": f"{outcome.status:04X}"},
        )
        return _answer(outcome)

    def _store(self, event: evt.Event, path: Path, expected: int, source: str, sop_uid: str) -> StoreOutcome:
        found = path.stat().st_size - _meta_bytes(path)
        if found != expected:
            error = StorageFailed(f"{expected} bytes were sent and {found} written")
            return self._intake.refuse(error, source=source, sop_uid=None)
        with self._blobs.adopt(path) as incoming:
            return self._intake.store(
                incoming, source=source, sop_class_uid=str(event.request.AffectedSOPClassUID or ""), sop_uid=sop_uid
            )


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
