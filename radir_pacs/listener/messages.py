"""DIMSE messages that are none.

pynetdicom 3.0 decodes commands in the thread that serves the connection, and a command set without an element that
it looks for (a C-STORE that names no SOP class, an unknown command field) ends that thread: the peer waits for an
answer and the association holds its slot for ever.
"""

from __future__ import annotations

import logging
import queue
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from radir_pacs.errors import DicomRefused
from radir_pacs.listener.bounds import BoundedSocket

log = logging.getLogger(__name__)


_LOOK_S = 0.005


class GuardedDimse(DIMSEServiceProvider):
    """Ends the association whose message cannot be decoded, by A-ABORT (PS3.8 9.2.2, event Evt19).

    The thread that serves the association looks for messages once a millisecond and sleeps in between. Here it waits
    in the look itself and is woken by the message; the sleep then falls into the time in which the next one arrives.
    """

    def get_msg(self, block: bool = False) -> Any:
        if block:
            return super().get_msg(block)
        try:
            return self.msg_queue.get(timeout=_LOOK_S)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # whatever a peer's bytes bring about in the library
            log.warning("a message cannot be decoded", extra={"error": type(error).__name__})
            sock = self.assoc.dul.socket
            if isinstance(sock, BoundedSocket):
                sock.refusal = DicomRefused("the peer sent what is no DIMSE message")
            self.dul.event_queue.put("Evt19")
