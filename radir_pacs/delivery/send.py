"""Sends DICOM files by C-STORE (PS3.4 annex B): the bytes on disk, one association, one result per file."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pynetdicom import AE, _config
from pynetdicom.association import Association

from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.part10_file import NotSendable, part10_file
from radir_pacs.delivery.rejection import rejection
from radir_pacs.errors import PeerFailed

CALLING_AE_TITLE = "RADIR-SEND"
_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd ids 1 to 255
_TIMEOUT_S = 60
_RESTART_S = 15.0  # time for a receiver to restart
_AGAIN_S = 0.5


class SendOutcome(StrEnum):
    """What happened to one file."""

    STORED = "stored"  # 0x0000, or a warning 0xBxxx (PS3.4 table B.2-1)
    REFUSED = "refused"  # any other status
    NOT_SENDABLE = "not_sendable"  # not a DICOM file, or one that cannot be sent as it is
    NOT_SUPPORTED = "not_supported"  # the peer accepted no presentation context for it
    NO_ANSWER = "no_answer"  # the association ended before the peer answered
    NOT_TRIED = "not_tried"  # the peer went away for good before its turn


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """What happened to one file; ``reason`` words a failure and is empty on success."""

    path: Path
    outcome: SendOutcome
    status: int | None = None  # what the peer answered to the C-STORE
    reason: str = ""


_Batch = list[
    tuple[Path, tuple[str, str]]
]  # with the SOP class and transfer syntax that its presentation context needs


def files_below(folder: Path) -> list[Path]:
    """Every file below ``folder`` (or the file itself), in name order."""
    return [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())


def send_files(
    paths: Sequence[Path],
    destination: Destination,
    *,
    calling_ae: str = CALLING_AE_TITLE,
    on_result: Callable[[SendResult], None] = lambda result: None,
) -> list[SendResult]:
    """Send each file; a refused one does not stop the rest.

    Raises PeerFailed when the peer cannot be reached. If it goes away later, every file left has that result.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # the bytes on disk, without decoding
    results: list[SendResult] = []

    def note(result: SendResult) -> None:
        results.append(result)
        on_result(result)

    with tempfile.TemporaryDirectory(prefix="radir-send-") as folder:
        sender = _Sender(destination, calling_ae, Path(folder), note)
        try:
            for batch in sender.batches(paths):
                sender.send(batch)
        except PeerFailed as error:
            if all(result.outcome is SendOutcome.NOT_SENDABLE for result in results):
                raise
            told = {result.path for result in results}
            for path in paths:
                if path not in told:
                    note(SendResult(path=path, outcome=SendOutcome.NOT_TRIED, reason=str(error)))
    return results


@dataclass(frozen=True)
class _Sender:
    destination: Destination
    calling_ae: str
    scratch: Path
    note: Callable[[SendResult], None]

    def batches(self, paths: Iterable[Path]) -> Iterator[_Batch]:
        """Groups of files whose presentation contexts fit one association; failures to read are noted at once."""
        batch: _Batch = []
        contexts: set[tuple[str, str]] = set()
        for path in paths:
            try:
                file = part10_file(path, self.scratch)
            except NotSendable as error:
                self.note(SendResult(path=path, outcome=SendOutcome.NOT_SENDABLE, reason=str(error)))
                continue
            context = (file.sop_class_uid, file.transfer_syntax_uid)
            if context not in contexts and len(contexts) == _MOST_CONTEXTS:
                yield batch
                batch, contexts = [], set()
            contexts.add(context)
            batch.append((path, context))
        if batch:
            yield batch

    def send(self, batch: _Batch) -> None:
        """Send by one association, or a second one where the peer ends it: the file goes again, with one effect (P2).

        Raises PeerFailed when there is none to be had.
        """
        association = _associate(batch, self.destination, self.calling_ae)
        try:
            for path, _ in batch:
                if not association.is_established:
                    association = _associate_again(batch, self.destination, self.calling_ae)
                result = self._store(association, path)
                if result.outcome is SendOutcome.NO_ANSWER:
                    if association.is_established:
                        association.abort()  # it may be dead
                    association = _associate_again(batch, self.destination, self.calling_ae)
                    result = self._store(association, path)
                self.note(result)
        finally:
            if association.is_established:
                association.release()

    def _store(self, association: Association, path: Path) -> SendResult:
        try:
            answer = association.send_c_store(part10_file(path, self.scratch).path)
        except (NotSendable, AttributeError, OSError) as error:  # for example, it changed since it was checked
            return SendResult(path=path, outcome=SendOutcome.NOT_SENDABLE, reason=str(error)[:200])
        except ValueError as error:  # no presentation context was accepted for it
            return SendResult(path=path, outcome=SendOutcome.NOT_SUPPORTED, reason=str(error)[:200])
        except RuntimeError:  # the association ended between two files
            return SendResult(path=path, outcome=SendOutcome.NO_ANSWER, reason="the association ended")
        status = answer.get("Status")
        if status is None:
            return SendResult(path=path, outcome=SendOutcome.NO_ANSWER, reason="the peer did not answer")
        if status == 0x0000 or status & 0xF000 == 0xB000:
            return SendResult(path=path, outcome=SendOutcome.STORED, status=status)
        comment = str(answer.get("ErrorComment", "")) or f"status {status:04X}"
        return SendResult(path=path, outcome=SendOutcome.REFUSED, status=status, reason=comment)


def _associate_again(batch: _Batch, destination: Destination, calling_ae: str) -> Association:
    """A new association after the peer ended one, allowing it a few seconds to restart. Raises PeerFailed."""
    deadline = time.monotonic() + _RESTART_S
    while True:
        try:
            return _associate(batch, destination, calling_ae)
        except PeerFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)


def _associate(batch: _Batch, destination: Destination, calling_ae: str) -> Association:
    ae = AE(ae_title=calling_ae)
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = _TIMEOUT_S
    for sop_class_uid, transfer_syntax_uid in sorted({context for _, context in batch}):
        ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    if not association.is_established:
        raise rejection(association, destination)
    _send_at_once(association)
    return association


def _send_at_once(association: Association) -> None:
    """Switch off TCP's wait for an acknowledgement between a command and its data set, which cost 40 ms per file."""
    own = association.dul.socket
    if own is not None and own.socket is not None:
        own.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
