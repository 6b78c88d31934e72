"""Who gets an association: checks who calls, slots, and each address's share of the slots (P6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom.association import Association

from radir_pacs.access.peers import Certificate, KnownPeers, PeerRights
from radir_pacs.config import Settings
from radir_pacs.listener.association_request import APPLICATION_CONTEXT, AssociationRequest
from radir_pacs.listener.bounds import BoundedSocket
from radir_pacs.listener.messages import end

IDLE_GIVES_WAY_S = 2.0  # an association idle for longer is ended when a newcomer needs its slot
_PERMANENT, _TRANSIENT = 1, 2
_USER, _ACSE, _PRESENTATION = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int
    what: str
    advice: str


class Admission:
    """``associations`` returns the running ones."""

    def __init__(
        self, settings: Settings, peers: KnownPeers, associations: Callable[[], Sequence[Association]]
    ) -> None:
        self._settings, self._peers, self._associations = settings, peers, associations
        self._slots = settings.listener_max_associations
        self._share = self._slots - self._slots // 4
        self.is_closing = False  # nobody is admitted any more

    def decide(
        self, request: AssociationRequest, host: str, certificate: Certificate | None = None
    ) -> PeerRights | Rejection:
        """What the association may do, or why it is rejected. May end an idle association to make room."""
        if self.is_closing:
            return Rejection(
                result=_TRANSIENT,
                source=_PRESENTATION,
                reason=1,
                what="temporary congestion",
                advice="this listener is being stopped; the sender may try again",
            )
        if request.protocol_version & 1 == 0:  # only bit 0 is tested (PS3.8 9.3.2)
            return Rejection(
                result=_PERMANENT,
                source=_ACSE,
                reason=2,
                what="protocol version not supported",
                advice="the sender uses a protocol version that the standard does not define",
            )
        if request.application_context != APPLICATION_CONTEXT:
            return Rejection(
                result=_PERMANENT,
                source=_USER,
                reason=2,
                what="application context name not supported",
                advice="the sender's DICOM library is at fault",
            )
        rights = self._peers.rights_of(request.calling_ae, host, certificate)
        if rights is None:
            return self._unknown(request)
        return self._called(request) or self._full(host) or rights

    def _unknown(self, request: AssociationRequest) -> Rejection:
        """The caller is told the same in both cases; which it is, is for the log here."""
        what = f"calling AE title {request.calling_ae!r} not recognized"
        advice = (
            "let it call by 'radir peers add' (or the setting calling_ae_titles), or correct its title, address or"
            " certificate"
        )
        if self._peers.knows(request.calling_ae):
            what = f"calling AE title {request.calling_ae!r} is known, but not by this address, certificate or port"
            advice = "'radir peers list' shows how it may call; a certificate comes by the port of TLS alone"
        return Rejection(result=_PERMANENT, source=_USER, reason=3, what=what, advice=advice)

    def _called(self, request: AssociationRequest) -> Rejection | None:
        if self._settings.check_called_ae and request.called_ae != self._settings.ae_title.strip():
            return Rejection(
                result=_PERMANENT,
                source=_USER,
                reason=7,
                what=f"called AE title {request.called_ae!r} not recognized",
                advice=f"the sender must call {self._settings.ae_title.strip()!r}, or switch check_called_ae off",
            )
        return None

    def _full(self, host: str) -> Rejection | None:
        """An address may hold three quarters of the slots; the others are kept for other addresses."""
        running = [one for one in self._associations() if not _is_ending(one)]
        held = Counter(host_of(one) for one in running)
        if len(running) < self._slots and held[host] < self._share:
            return None
        has_its_share = held[host] >= self._share
        if self._end_idle([one for one in running if not has_its_share or host_of(one) == host]):
            return None
        limit = "three quarters of listener_max_associations" if has_its_share else "listener_max_associations"
        return Rejection(
            result=_TRANSIENT,
            source=_PRESENTATION,
            reason=2,
            what="local limit of associations exceeded",
            advice=f"the sender may try again; {limit} ({self._slots}) may be too low",
        )

    def open_count(self) -> int:
        """How many associations are open."""
        return sum(not _is_ending(one) for one in self._associations())

    def end_finished(self, idle_s: float) -> bool:
        """End the associations that have been idle for ``idle_s``; whether any other is left."""
        running = [one for one in self._associations() if not _is_ending(one)]
        for one in running:
            sock = one.dul.socket
            if isinstance(sock, BoundedSocket) and sock.idle_s > idle_s:
                _give_way(one, "idle while the listener is being stopped", "the sender may open another")
        return any(not _is_ending(one) for one in running)

    @staticmethod
    def _end_idle(running: Sequence[Association]) -> bool:
        idle = {one: one.dul.socket.idle_s for one in running if isinstance(one.dul.socket, BoundedSocket)}
        longest: Any = max(idle, key=lambda one: idle[one], default=None)
        if longest is None or idle[longest] < IDLE_GIVES_WAY_S:
            return False
        _give_way(
            longest,
            "idle while another peer needed its slot",
            "raise listener_max_associations if this happens often",
        )
        return True


def _give_way(association: Any, what: str, advice: str) -> None:
    association.radir_gives_way = True
    end(association, what, advice)


def _is_ending(association: Association) -> bool:
    """Whether only its threads have yet to end: its slot is free."""
    gone = association.is_released or association.is_aborted or association._kill
    return gone or bool(getattr(association, "radir_gives_way", False))


def host_of(association: Association) -> str:
    address = association.requestor.address_info
    return address.address if address is not None else ""
