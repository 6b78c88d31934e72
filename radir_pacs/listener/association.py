"""An association as we serve it: pynetdicom's, with bounds, guarded messages, and our choice of contexts."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.dimse_primitives import C_STORE, N_ACTION, N_EVENT_REPORT
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.transport import AddressInformation

from radir_pacs.listener.association_request import AssociationRequest, ProposedContext
from radir_pacs.listener.bounds import BoundedSocket, PeerBounds
from radir_pacs.listener.commitment import StorageCommitment
from radir_pacs.listener.contexts import ABSTRACT_SYNTAX_NOT_SUPPORTED, Choice, choose
from radir_pacs.listener.messages import GuardedDimse, Served, end

_CAME_BACK_S = 1.0  # a peer that has something to say itself says it within this time
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
        commitment: StorageCommitment,
    ) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self.choices = [choose(context) for context in request.contexts]
        self.radir_gives_way = False
        self.reports_sent: dict[int, int] = {}  # by message id of our N-EVENT-REPORT: id of the commitment
        self._may_have_reports = True
        self._commitment = commitment
        self._server = server
        self.name = f"AcceptorThread@{address[0]}"  # pynetdicom finds its acceptors by this word
        first = _with_choices(request, self.choices).encode()
        self.set_socket(BoundedSocket(self, sock, bounds, first=first, titles=request.titles))
        self.dul._run_loop_delay = 0.0  # its socket waits for data by itself
        self.dimse = GuardedDimse(self, instance_bytes=bounds.message_bytes)
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
        """Serve C-STORE for any class, even one we will refuse; pynetdicom serves the other requests.

        pynetdicom leaves a request that lacks a mandatory element unanswered; here the association ends.
        """
        context = self._accepted_cx.get(context_id)
        is_store = isinstance(msg, C_STORE) and msg.MessageID is not None and msg.AffectedSOPClassUID is not None
        if context is None or not (is_store or msg.is_valid_request):
            end(
                self, "the peer sent a request that lacks a mandatory element", "the sender's DICOM library is at fault"
            )
        elif is_store:
            self._is_paused = True
            StorageServiceClass(self).SCP(msg, context)
            self._is_paused = False
        else:
            super()._serve_request(msg, context_id)
            if isinstance(msg, N_ACTION):
                self._commitment.report_pending(self)

    def nothing_to_do(self) -> None:
        """No message is waiting. The peer may have come back for results of storage commitment."""
        sock = self.dul.socket
        if self._may_have_reports and isinstance(sock, BoundedSocket) and sock.idle_s > _CAME_BACK_S:
            self._may_have_reports = False
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
