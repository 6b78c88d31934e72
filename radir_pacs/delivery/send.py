"""Sends DICOM files by C-STORE (PS3.4 annex B): bytes as they lie on the disk, one association, a result a file."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config
from pynetdicom.association import Association

from radir_pacs.errors import BadInput, PeerFailed

_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd ids 1 to 255
_TIMEOUT_S = 60
_RESTART_S = 15.0  # what a receiver needs to come up again
_AGAIN_S = 0.5
_NO_ANSWER = "the peer did not answer"


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A DICOM peer, written AET@host:port."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Destination:
        match = re.fullmatch(r"([^@\\]{1,16})@\[?([^@\]]+?)\]?:(\d{1,5})", text.strip())
        if not match or not 0 < int(match[3]) < 65536:
            raise BadInput(f"{text!r} is not a destination; write AET@host:port")
        return cls(ae_title=match[1], host=match[2], port=int(match[3]))

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """What the peer said of one file; ``reason`` is empty on success (status 0x0000 or a warning 0xBxxx)."""

    path: Path
    status: int | None
    reason: str = ""


def dicom_files(folder: Path) -> Iterator[Path]:
    """Every Part-10 file below ``folder`` (or the file itself), in name order, known by its prefix (PS3.10 7.1)."""
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                yield path


def send_files(
    paths: Sequence[Path],
    destination: Destination,
    *,
    calling_ae: str = "RADIR-SEND",
    on_result: Callable[[SendResult], None] = lambda result: None,
) -> list[SendResult]:
    """Send each file; a refused one does not stop the rest.

    Raises PeerFailed when the peer cannot be reached; one that goes away in the middle is said of every file left.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # as it lies on the disk, without decoding
    results: list[SendResult] = []

    def note(result: SendResult) -> None:
        results.append(result)
        on_result(result)

    try:
        for batch in _batches(paths, note):
            _send_batch(batch, destination, calling_ae, note)
    except PeerFailed as error:
        if all(result.status is None for result in results):
            raise
        told = {result.path for result in results}
        for path in paths:
            if path not in told:
                note(SendResult(path=path, status=None, reason=str(error)))
    return results


def _send_batch(
    batch: list[tuple[Path, tuple[str, str]]],
    destination: Destination,
    calling_ae: str,
    note: Callable[[SendResult], None],
) -> None:
    """By one association, or another where the peer ends it: then the file goes once more, which has one effect (P2).

    Raises PeerFailed when there is none to be had.
    """
    association = _associate(batch, destination, calling_ae)
    try:
        for path, _ in batch:
            if not association.is_established:
                association = _associate_again(batch, destination, calling_ae)
            result = _send(association, path)
            if result.reason == _NO_ANSWER:
                if association.is_established:
                    association.abort()  # it may be dead
                association = _associate_again(batch, destination, calling_ae)
                result = _send(association, path)
            note(result)
    finally:
        if association.is_established:
            association.release()


def _batches(paths: Iterable[Path], note: Callable[[SendResult], None]) -> Iterator[list[tuple[Path, tuple[str, str]]]]:
    """Files whose presentation contexts fit one association; what cannot be read is noted at once."""
    batch: list[tuple[Path, tuple[str, str]]] = []
    contexts: set[tuple[str, str]] = set()
    for path in paths:
        try:
            meta = read_file_meta_info(path)
            context = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        except (InvalidDicomError, AttributeError, OSError, ValueError) as error:
            note(SendResult(path=path, status=None, reason=f"not a DICOM file ({type(error).__name__})"))
            continue
        if context not in contexts and len(contexts) == _MOST_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        contexts.add(context)
        batch.append((path, context))
    if batch:
        yield batch


def _associate_again(
    batch: list[tuple[Path, tuple[str, str]]], destination: Destination, calling_ae: str
) -> Association:
    """After the peer ended one: it may be starting again, and gets a few seconds for that. Raises PeerFailed."""
    deadline = time.monotonic() + _RESTART_S
    while True:
        try:
            return _associate(batch, destination, calling_ae)
        except PeerFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)


def _associate(batch: list[tuple[Path, tuple[str, str]]], destination: Destination, calling_ae: str) -> Association:
    ae = AE(ae_title=calling_ae)
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = _TIMEOUT_S
    for sop_class_uid, transfer_syntax_uid in sorted({context for _, context in batch}):
        ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    if not association.is_established:
        why = "refused the association" if association.is_rejected else "does not answer"
        raise PeerFailed(f"{destination} {why}")
    _send_at_once(association)
    return association


def _send_at_once(association: Association) -> None:
    """Without TCP's wait for an acknowledgement between a command and its data set, which cost 40 ms a file."""
    own = association.dul.socket
    if own is not None and own.socket is not None:
        own.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _send(association: Association, path: Path) -> SendResult:
    try:
        answer = association.send_c_store(path)
    except (ValueError, AttributeError, RuntimeError, OSError) as error:
        return SendResult(path=path, status=None, reason=str(error)[:200])
    status = answer.get("Status")
    if status is None:
        return SendResult(path=path, status=None, reason=_NO_ANSWER)
    ok = status == 0x0000 or status & 0xF000 == 0xB000
    comment = str(answer.get("ErrorComment", "")) or f"status {status:04X}"
    return SendResult(path=path, status=status, reason="" if ok else comment)
