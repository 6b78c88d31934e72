"""Returning a report to the PACS: one C-STORE (PS3.4 annex B) within a time budget.

The budget also holds against a peer that answers one byte per second, where pynetdicom's own timeouts start anew at
each byte: a timer shuts the socket.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event

from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.rejection import rejection
from radir_pacs.errors import PeerFailed
from radir_pacs.reasons import ReasonCode

CALLING_AE_TITLE = "RADIR"
BUDGET_S = 10.0


def return_to_pacs(
    ds: Dataset, destination: Destination, *, calling_ae_title: str = CALLING_AE_TITLE, budget_s: float = BUDGET_S
) -> int:
    """Send ``ds`` and return the C-STORE status: 0x0000, or a warning 0xBxxx (PS3.4 table B.2-1).

    Raises PeerFailed, within about ``budget_s``, when the destination cannot be reached, refuses the association or
    the object, or is too slow.
    """
    ae = AE(ae_title=calling_ae_title)
    ae.add_requested_context(ds.SOPClassUID, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = budget_s
    attempt = _Attempt()
    timer = threading.Timer(budget_s, attempt.give_up)
    timer.daemon = True
    timer.start()
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, attempt.opened)],
        )
        if not association.is_established:
            if attempt.late:
                raise _too_slow(destination)
            raise rejection(association, destination)
        try:
            answer = association.send_c_store(ds)
        except ValueError:  # no presentation context was accepted
            raise PeerFailed(
                f"{destination} takes no object of this SOP class", reason_code=ReasonCode.PEER_NOT_SUPPORTED
            ) from None
        except RuntimeError:  # the association ended in the meantime
            if attempt.late:
                raise _too_slow(destination) from None
            raise PeerFailed(f"{destination} ended the association", reason_code=ReasonCode.PEER_NO_ANSWER) from None
        finally:
            if not attempt.late:
                association.release()
    finally:
        timer.cancel()
    status = answer.get("Status")
    if status is None and attempt.late:
        raise _too_slow(destination)
    if status is None:
        raise PeerFailed(f"{destination} did not answer the C-STORE", reason_code=ReasonCode.PEER_NO_ANSWER)
    if status != 0x0000 and status & 0xF000 != 0xB000:
        raise PeerFailed(
            f"{destination} refuses the object with status {status:04X}", reason_code=ReasonCode.PEER_REFUSED
        )
    return int(status)


def _too_slow(destination: Destination) -> PeerFailed:
    return PeerFailed(f"{destination} is too slow", reason_code=ReasonCode.PEER_TOO_SLOW)


@dataclass
class _Attempt:
    """The socket of one association, and whether its time has run out; shared with the timer's thread."""

    late: bool = False
    _socket: socket.socket | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def opened(self, event: Event) -> None:
        transport = event.assoc.dul.socket
        with self._lock:
            self._socket = transport.socket if transport is not None else None
        if self.late:
            self._shut()

    def give_up(self) -> None:
        self.late = True
        self._shut()

    def _shut(self) -> None:
        with self._lock:
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # closed already
