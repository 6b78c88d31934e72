"""Handlers for the events of an association, except C-STORE (`instances`)."""

from __future__ import annotations

import logging
from typing import Any

from pynetdicom import evt
from pynetdicom.pdu import A_ABORT_RQ

from radir_pacs.listener.admission import host_of
from radir_pacs.listener.bounds import BoundedSocket, Ending
from radir_pacs.listener.commitment import StorageCommitment
from radir_pacs.listener.instances import calling_ae_of
from radir_pacs.listener.messages import GuardedDimse
from radir_pacs.listener.refused import RefusalLog, Refused

log = logging.getLogger(__name__)


class Handlers:
    """Bound to every association of one server."""

    def __init__(self, refusals: RefusalLog, commitment: StorageCommitment) -> None:
        self._refusals, self._commitment = refusals, commitment

    def bindings(self) -> list[Any]:
        return [
            (evt.EVT_C_ECHO, self.on_echo),
            (evt.EVT_N_ACTION, self._commitment.on_action),
            (evt.EVT_DIMSE_SENT, self.on_answered),
            (evt.EVT_PDU_RECV, self.on_pdu),
            (evt.EVT_CONN_CLOSE, self.on_close),
        ]

    def on_echo(self, event: evt.Event) -> int:
        return 0x0000

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
        dimse = event.assoc.dimse
        amid_message = isinstance(dimse, GuardedDimse) and dimse.abandon()
        sock = event.assoc.dul.socket
        calling_ae, host = calling_ae_of(event.assoc), host_of(event.assoc)
        stored = getattr(event.assoc, "stored", 0)
        if stored:
            log.info("instances stored", extra={"calling_ae": calling_ae, "address": host, "instances": stored})
        if not isinstance(sock, BoundedSocket) or event.assoc.is_released:
            return
        ending = sock.ending
        if ending is None and amid_message:
            ending = Ending(
                what="the connection was lost in the middle of a message", advice="look at the network and the sender"
            )
        if ending is None:
            log.info("the peer disconnected without a release", extra={"calling_ae": calling_ae, "address": host})
            return
        self._refusals.note(
            Refused(address=host, calling_ae=calling_ae, what=f"association ended, {ending.what}", advice=ending.advice)
        )
