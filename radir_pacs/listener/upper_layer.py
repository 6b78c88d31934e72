"""The upper layer of an association (PS3.8 9.2): pynetdicom's, except P-DATA, which goes straight to the messages.

pynetdicom decodes each P-DATA-TF PDU into objects and passes it through three queues and its state machine. In the
state of data transfer (Sta6) a P-DATA-TF PDU changes no state, so nothing is lost when it is read here.
"""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable
from typing import Any

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine

from radir_pacs.listener.bell import Bell
from radir_pacs.listener.bounds import ENDING_LOOK_S, LOOK_S, BoundedSocket, Ending
from radir_pacs.listener.messages import GuardedDimse, Served

log = logging.getLogger(__name__)

_PDU_HEADER_BYTES = 6
_P_DATA_TF = 0x04
_DATA_TRANSFER, _ENDING = "Sta6", "Sta13"
_OURS = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})  # primitives of our side (PS3.8 table 9-10)
_CLOSED = "Evt17"  # the transport connection is closed (PS3.8 table 9-10)


class UpperLayer(DULServiceProvider):
    """The thread that reads from the peer, and that stores what comes by C-STORE."""

    def __init__(self, assoc: Served, dimse: GuardedDimse) -> None:
        super().__init__(assoc)
        self._run_loop_delay = 0.0  # its socket waits for data by itself
        self._dimse = dimse
        self.bell = Bell()
        self.to_user_queue = _AnnouncedQueue(dimse.nudge)
        self.to_provider_queue = _AnnouncedQueue(self.bell.ring)
        self.event_queue = _AnnouncedQueue(self.bell.ring)
        self.state_machine = _StateMachine(self)

    def run(self) -> None:
        """As in pynetdicom, which leaves the connection open where it fails."""
        try:
            super().run()
        except Exception as error:  # the peer's bytes can raise anything in the library: an A-ABORT of unknown source
            log.warning("an association is broken off", extra={"error": type(error).__name__})
            if isinstance(self.socket, BoundedSocket) and self.socket.ending is None:
                self.socket.ending = Ending(what="what the peer sent is no DICOM", advice="its log says why")
            self.assoc.is_aborted = True
            self.assoc.is_established = False
            self.assoc._kill = True
            if self.socket is not None:
                self.socket.close()
        finally:
            self.bell.close()

    def kill_dul(self) -> None:
        """As in pynetdicom, at once."""
        super().kill_dul()
        self.bell.ring()

    def idle_timer_expired(self) -> bool:
        """As in pynetdicom; never while an instance is being stored."""
        return self._dimse.incoming is None and super().idle_timer_expired()

    def _is_transport_event(self) -> bool:
        """As in pynetdicom; what is to be done already comes before what the peer may send."""
        if not self.event_queue.empty():
            return False
        if isinstance(self.socket, BoundedSocket):
            self.socket.look_s = ENDING_LOOK_S if self.state_machine.current_state == _ENDING else LOOK_S
        return super()._is_transport_event()

    def _read_pdu_data(self) -> None:
        """As in pynetdicom; instances are received and stored on the way."""
        sock = self.socket
        if self.state_machine.current_state != _DATA_TRANSFER or not isinstance(sock, BoundedSocket):
            super()._read_pdu_data()
            return
        try:
            while self._read_p_data(sock):
                if self._dimse.incoming is None or self._kill_thread or not self.event_queue.empty():
                    return
        except OSError:  # beyond a bound, or the connection is lost
            self.event_queue.put(_CLOSED)
            return
        super()._read_pdu_data()

    def _read_p_data(self, sock: BoundedSocket) -> bool:
        """Read a P-DATA-TF PDU; False when something else comes next, which stays to be read."""
        header = sock.peek(_PDU_HEADER_BYTES)
        if len(header) < _PDU_HEADER_BYTES or header[0] != _P_DATA_TF:
            return False
        sock.recv(_PDU_HEADER_BYTES)
        length = int.from_bytes(header[2:], "big")
        body = sock.recv_lent(length)
        if len(body) < length:
            raise ConnectionError("the peer hung up in the middle of a PDU")
        self._dimse.receive(body)
        return True


class _StateMachine(StateMachine):
    """pynetdicom's, which ends its thread where our side still answers what the peer has broken off meanwhile."""

    def do_action(self, event: str) -> None:
        """As in pynetdicom; an answer that comes too late is not given."""
        if event in _OURS and (event, self.current_state) not in TRANSITION_TABLE:
            with contextlib.suppress(queue.Empty):
                self.dul.to_provider_queue.get(block=False)
            return
        super().do_action(event)


class _AnnouncedQueue(queue.Queue[Any]):
    """Wakes the thread that looks into this queue, and waits for something else."""

    def __init__(self, announce: Callable[[], None]) -> None:
        super().__init__()
        self._announce = announce

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._announce()
