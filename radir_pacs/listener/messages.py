"""Puts DIMSE messages together (PS3.7), whatever bytes a peer sends.

A C-STORE is read here and its data set goes to a file as it comes. All other messages are pynetdicom's, which decodes
commands in the thread that serves the connection: one that lacks an expected element (an unknown command field) would
end that thread, and the peer would wait for an answer while the association keeps its slot for ever.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA

from radir_pacs.errors import BadInput, DicomRefused
from radir_pacs.listener import c_store
from radir_pacs.listener.bounds import BoundedSocket, Ending
from radir_pacs.listener.instance_file import InstanceFile

log = logging.getLogger(__name__)

MOST_OTHER_BYTES = 8 << 20  # limit of a data set kept in memory; an N-ACTION with 50,000 references is smaller
_MOST_COMMAND_BYTES = 1 << 16
_LOOK_S = 0.25  # whoever has something to say to the thread that waits here wakes it
_COMMAND, _LAST = 1, 2  # bits of the message control header (PS3.8 E.2)


class Served(Association):
    """What the message provider calls on its association."""

    def nothing_to_do(self) -> None:
        """No message is waiting."""
        raise NotImplementedError

    def event_reported(self, answer: N_EVENT_REPORT) -> None:
        """The peer answered our N-EVENT-REPORT."""
        raise NotImplementedError

    def begin_store(self, request: c_store.StoreRequest) -> InstanceFile:
        """The file that receives the data set of a C-STORE."""
        raise NotImplementedError

    def store(self, file: InstanceFile) -> None:
        """The data set is complete: keep it, and answer."""
        raise NotImplementedError


class GuardedDimse(DIMSEServiceProvider):
    """Ends an association whose message cannot be decoded, by A-ABORT (PS3.8 9.2.2, event Evt19).

    Two threads meet here. That of the upper layer brings what the peer sends (`receive`) and stores instances; the
    other one waits for the remaining messages (`get_msg`), of which there are few.
    """

    def __init__(self, assoc: Served) -> None:
        super().__init__(assoc)
        self._served = assoc
        self._command = bytearray()
        self._other_bytes = 0
        self.incoming: InstanceFile | None = None  # of the C-STORE that is being received or stored

    def nudge(self) -> None:
        """Wake the thread that waits in `get_msg`: it has something else to look at."""
        self.msg_queue.put((None, None))

    def get_msg(self, block: bool = False) -> Any:
        """As in pynetdicom, whose thread polls once a millisecond: here it waits inside the poll and is woken."""
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

    def receive(self, body: memoryview) -> None:
        """Take the body of a P-DATA-TF PDU (PS3.8 9.3.5). ``body`` is used again after the call."""
        try:
            for context_id, control, fragment in _fragments(body):
                self._receive(context_id, control, fragment)
        except Exception as error:  # the peer's bytes can raise anything in the library
            log.warning("a message cannot be decoded", extra={"error": type(error).__name__})
            end(
                self.assoc, "the peer sent bytes that are not a DIMSE message", "the sender's DICOM library is at fault"
            )

    def _receive(self, context_id: int, control: int, fragment: memoryview) -> None:
        if control & _COMMAND:
            self._receive_command(context_id, control, fragment)
        elif self.incoming is not None:
            self.incoming.write(fragment)
            if control & _LAST:
                self._store(self.incoming)
        else:
            self._other_bytes += len(fragment)
            if self._other_bytes > MOST_OTHER_BYTES:
                raise DicomRefused("a data set outside C-STORE is too large")
            self._pass_on(context_id, bytes([control]) + bytes(fragment))

    def _receive_command(self, context_id: int, control: int, fragment: memoryview) -> None:
        if self.incoming is not None:
            raise BadInput("a command came before the end of a data set")
        self._command += fragment
        if len(self._command) > _MOST_COMMAND_BYTES:
            raise BadInput("a command set is too large")
        if not control & _LAST:
            return
        command, self._command = bytes(self._command), bytearray()
        self._other_bytes = 0
        request = c_store.parse(context_id, command)
        if request is None:
            self._pass_on(context_id, bytes([control]) + command)
            return
        if self.message is not None or context_id not in self.assoc._accepted_cx:
            raise BadInput("a C-STORE amid another message, or in a context that was not accepted")
        self.incoming = self._served.begin_store(request)
        if not request.has_data_set:
            self._store(self.incoming)

    def _store(self, file: InstanceFile) -> None:
        try:
            self._served.store(file)
        finally:
            self.incoming = None

    def abandon(self) -> bool:
        """The connection is gone: remove the file of an incomplete message. Whether a message was incomplete."""
        amid_message = self.incoming is not None or self.message is not None or bool(self._command)
        if self.incoming is not None:
            self.incoming.discard()
            self.incoming = None
        return amid_message

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        """Let pynetdicom have a fragment with its control header."""
        single, pairs = P_DATA(), [[context_id, fragment]]
        single.presentation_data_value_list = pairs  # type: ignore[assignment]  # it insists on lists
        super().receive_primitive(single)


def _fragments(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(context id, message control header, bytes) of each presentation data value. Raises BadInput."""
    at = 0
    while at < len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        behind = at + 4 + length
        if length < 2 or behind > len(body):
            raise BadInput("a presentation data value extends beyond its PDU")
        yield body[at + 4], body[at + 5], body[at + 6 : behind]
        at = behind


def end(association: Association, what: str, advice: str = "") -> None:
    """Abort an association, from any thread, and remember why."""
    sock = association.dul.socket
    if isinstance(sock, BoundedSocket):
        sock.ending = Ending(what=what, advice=advice)
    association.dul.event_queue.put("Evt19")
