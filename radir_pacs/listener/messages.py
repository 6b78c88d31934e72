"""Decodes DIMSE messages safely, whatever bytes a peer sends.

pynetdicom 3.0 decodes commands in the thread that serves the connection. A command set that lacks an expected element
(a C-STORE without SOP class, an unknown command field) ends that thread, and so does a full disk: the peer then waits
for an answer while the association keeps its slot for ever.
"""

from __future__ import annotations

import logging
import queue
import re
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA

from radir_pacs.errors import DicomRefused, RadirError, StorageFailed
from radir_pacs.listener.bounds import BoundedSocket, Ending
from radir_pacs.listener.instance_file import InstanceFile

log = logging.getLogger(__name__)

INVALID_INSTANCE = 0x0117  # PS3.7 C.5.9
MOST_OTHER_BYTES = 8 << 20  # limit of a data set kept in memory; an N-ACTION with 50,000 references is smaller
_LOOK_S = 0.005
_COMMAND, _LAST = 1, 2  # bits of the message control header (PS3.8 E.2)
_AFFECTED_SOP_INSTANCE_UID = b"\x00\x00\x00\x10"  # (0000,1000), little-endian
_UID = re.compile(rb"[0-9.]{1,64}")


class Served(Association):
    """What the message provider calls on its association."""

    def nothing_to_do(self) -> None:
        """No message is waiting."""
        raise NotImplementedError

    def event_reported(self, answer: N_EVENT_REPORT) -> None:
        """The peer answered our N-EVENT-REPORT."""
        raise NotImplementedError


class GuardedDimse(DIMSEServiceProvider):
    """Ends an association whose message cannot be decoded, by A-ABORT (PS3.8 9.2.2, event Evt19).

    pynetdicom's thread polls for messages once a millisecond and sleeps in between. Here it waits inside the poll and
    is woken by the message; the sleep then falls into the time in which the next message arrives.
    """

    def __init__(self, assoc: Served, *, instance_bytes: int) -> None:
        super().__init__(assoc)
        self._served = assoc
        self._instance_bytes = instance_bytes
        self._other_bytes = 0

    def get_msg(self, block: bool = False) -> Any:
        if block:
            return super().get_msg(block)
        try:
            context_id, message = self.msg_queue.get(timeout=_LOOK_S)
        except queue.Empty:
            self._served.nothing_to_do()
            return None, None
        if isinstance(message, N_EVENT_REPORT) and message.is_valid_response:
            self._served.event_reported(message)
            return None, None
        return context_id, message

    def receive_primitive(self, primitive: P_DATA) -> None:
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._receive(context_id, fragment)
        except Exception as error:  # the peer's bytes can raise anything in the library
            log.warning("a message cannot be decoded", extra={"error": type(error).__name__})
            end(
                self.assoc, "the peer sent bytes that are not a DIMSE message", "the sender's DICOM library is at fault"
            )

    def _receive(self, context_id: int, fragment: bytes) -> None:
        """Process fragments one by one, so that the effects of a command set precede its data set."""
        control = fragment[0]
        self._other_bytes = 0 if control & _COMMAND else self._other_bytes + len(fragment)
        message = self.message
        if self._other_bytes > MOST_OTHER_BYTES and getattr(message, "_data_set_file", None) is None:
            raise DicomRefused("a data set outside C-STORE is too large")
        single, pairs = P_DATA(), [[context_id, fragment]]
        single.presentation_data_value_list = pairs  # type: ignore[assignment]  # it insists on lists
        try:
            super().receive_primitive(single)
        except Exception as error:
            message = self.message
            if not (isinstance(message, C_STORE_RQ) and control & _COMMAND and control & _LAST):
                raise
            if context_id not in self.assoc._accepted_cx or "AffectedSOPClassUID" not in message.command_set:
                raise
            self._guard(message, None, _why(error))
        else:
            message = self.message
            made = getattr(message, "_data_set_file", None)
            if isinstance(message, C_STORE_RQ) and made is not None and not isinstance(made, InstanceFile):
                self._guard(message, made, None)

    def _guard(self, message: C_STORE_RQ, made: Any, failure: RadirError | None) -> None:
        """Check the UID as it was sent, since pydicom strips line ends, and replace the file by a guarded one."""
        if not _has_uid(message.encoded_command_set.getvalue()):
            failure = DicomRefused("the Affected SOP Instance UID is not a UID", dimse_status=INVALID_INSTANCE)
            message.command_set.AffectedSOPInstanceUID = ""
        file: Any = InstanceFile(made, most_bytes=self._instance_bytes, failure=failure)
        message._data_set_file = file
        message._data_set_path = message._data_set_path if made is not None else None


def _why(error: Exception) -> RadirError:
    if isinstance(error, OSError):
        return StorageFailed(f"the disk refused the instance: {error.strerror or type(error).__name__}")
    return DicomRefused("the command set names no instance", dimse_status=INVALID_INSTANCE)


def _has_uid(command_set: bytes) -> bool:
    """Whether Affected SOP Instance UID is digits and dots, padded by NUL (PS3.5 9.1) or, by some senders, spaces."""
    at = 0
    while at + 8 <= len(command_set):
        tag, length = command_set[at : at + 4], int.from_bytes(command_set[at + 4 : at + 8], "little")
        if tag == _AFFECTED_SOP_INSTANCE_UID:
            value = command_set[at + 8 : at + 8 + length]
            return _UID.fullmatch(value.rstrip(b"\0 ")) is not None
        at += 8 + length
    return False


def end(association: Association, what: str, advice: str = "") -> None:
    """Abort an association, from any thread, and remember why."""
    sock = association.dul.socket
    if isinstance(sock, BoundedSocket):
        sock.ending = Ending(what=what, advice=advice)
    association.dul.event_queue.put("Evt19")
