"""An association as we serve it: pynetdicom's, with bounds, guarded messages, and our choice of contexts."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AddressInformation

from radir_pacs.access.peers import PeerRights
from radir_pacs.catalogue import Commitment
from radir_pacs.listener import c_store
from radir_pacs.listener.admission import host_of
from radir_pacs.listener.association_request import AssociationRequest, ProposedContext
from radir_pacs.listener.bounds import BoundedSocket, PeerBounds
from radir_pacs.listener.commitment import StorageCommitment
from radir_pacs.listener.contexts import ABSTRACT_SYNTAX_NOT_SUPPORTED, Choice, choose
from radir_pacs.listener.instance_file import InstanceFile
from radir_pacs.listener.instances import Instances, calling_ae_of
from radir_pacs.listener.messages import GuardedDimse, Served, end
from radir_pacs.listener.upper_layer import UpperLayer

log = logging.getLogger(__name__)

_QUIET_S = 1.0  # a peer that has something to say itself says it within this time; also between two looks
# Placeholders, since pynetdicom wants a transfer syntax everywhere: in a context that offers none, and in our own list.
_NO_SYNTAX, _UNOFFERED = "2.25.0", "2.25.1"


class ServedAssociation(Served):
    """An admitted connection; ``open`` starts it. ``choices`` holds the decision on each proposed context."""

    def __init__(
        self,
        server: Any,
        sock: socket.socket,
        address: Any,
        request: AssociationRequest,
        bounds: PeerBounds,
        instances: Instances,
        commitment: StorageCommitment,
        rights: PeerRights,
    ) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self.choices = [choose(context, rights) for context in request.contexts]
        self._rights = rights
        self._noted: set[str] = set()  # studies of which the audit trail knows that this association stored in them
        self.radir_gives_way = False
        self.stored = 0  # instances that were answered with success
        self.reports_sent: dict[int, Commitment] = {}  # by message id of our N-EVENT-REPORT; each once
        self._looks_again_at = 0.0
        self._instances, self._commitment = instances, commitment
        self._server = server
        self.name = f"AcceptorThread@{address[0]}"  # pynetdicom finds its acceptors by this word
        first = _with_choices(request, self.choices).encode()
        self.dimse = GuardedDimse(self)
        self.dul = UpperLayer(self, self.dimse)
        self.acse_timeout, self.network_timeout = self.ae.acse_timeout, self.ae.network_timeout  # its timers have them
        self.set_socket(BoundedSocket(self, sock, bounds, self.dul.bell, first=first, titles=request.titles))
        self.acceptor.maximum_length = self.ae.maximum_pdu_size
        self.acceptor.ae_title = server.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        self.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        self.acceptor.implementation_version_name = self.ae.implementation_version_name
        self.acceptor.supported_contexts = _supported(self.choices)
        self.requestor.address_info = AddressInformation.from_tuple(address)
        self.requestor.ae_title = request.calling_ae or "?"
        for event, handlers in server._handlers.items():
            for handler in [handlers] if event.is_intervention else handlers:
                if handler[0] is not None:
                    self.bind(event, handler[0], handler[1])

    def open(self) -> None:
        """Start the threads; they answer the request first."""
        evt.trigger(self, evt.EVT_CONN_OPEN, {"address": self.requestor.address_info})
        self.start()

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """pynetdicom leaves a request that lacks a mandatory element unanswered; here the association ends."""
        if self._accepted_cx.get(context_id) is None or not msg.is_valid_request:
            end(
                self, "the peer sent a request that lacks a mandatory element", "the sender's DICOM library is at fault"
            )
            return
        super()._serve_request(msg, context_id)

    def begin_store(self, request: c_store.StoreRequest) -> InstanceFile:
        """A C-STORE of any class, even one that is refused at its end."""
        syntax = self._accepted_cx[request.context_id].transfer_syntax
        return self._instances.begin(request, transfer_syntax_uid=str(syntax[0]))

    def store(self, file: InstanceFile) -> None:
        """Keep the instance and answer, in the thread that received it: its peer waits for the answer anyway."""
        outcome = self._instances.store(file, calling_ae_of(self), self._rights.site)
        self.stored += outcome.ok
        if outcome.ok and outcome.study_uid not in self._noted:
            self._noted.add(outcome.study_uid)
            self._instances.note_received(outcome.study_uid, calling_ae_of(self), host_of(self))
            log.info("study arrives", extra={"study_uid": outcome.study_uid, "calling_ae": calling_ae_of(self)})
        sock = self.dul.socket
        if isinstance(sock, BoundedSocket):
            sock.send(
                c_store.answer(
                    file.request,
                    outcome.status,
                    "" if outcome.ok else outcome.reason,
                    maximum_length=self.requestor.maximum_length or 0,
                )
            )
            sock.message_done()

    def nothing_to_do(self) -> None:
        """No message is waiting. Results of storage commitment may have come for the peer."""
        sock = self.dul.socket
        if isinstance(sock, BoundedSocket) and sock.idle_s > _QUIET_S and time.monotonic() > self._looks_again_at:
            self._looks_again_at = time.monotonic() + _QUIET_S
            self._commitment.report_pending(self)

    def event_reported(self, answer: N_EVENT_REPORT) -> None:
        """The peer answered our N-EVENT-REPORT; pynetdicom itself expects only requests here."""
        self._commitment.on_reported(self, answer)


def _with_choices(request: AssociationRequest, choices: Sequence[Choice]) -> AssociationRequest:
    """The request with one transfer syntax per context: the chosen one or, if it is refused, the first offered."""
    contexts = tuple(
        ProposedContext(
            context_id=choice.context.context_id,
            abstract_syntax=choice.context.abstract_syntax or _NO_SYNTAX,
            transfer_syntaxes=(choice.transfer_syntax or next(iter(choice.context.transfer_syntaxes), _NO_SYNTAX),),
        )
        for choice in choices
    )
    return replace(request, contexts=contexts)


def _supported(choices: Sequence[Choice]) -> list[PresentationContext]:
    """The supported contexts that lead pynetdicom's negotiation to our decisions."""
    chosen: dict[str, set[str]] = {}
    for choice in choices:
        if choice.result != ABSTRACT_SYNTAX_NOT_SUPPORTED:
            syntaxes = chosen.setdefault(choice.context.abstract_syntax, {_UNOFFERED})
            syntaxes |= {choice.transfer_syntax} - {""}
    return [build_context(abstract, sorted(syntaxes)) for abstract, syntaxes in sorted(chosen.items())]
