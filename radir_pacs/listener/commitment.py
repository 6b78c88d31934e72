"""Storage commitment as SCP (PS3.4 annex J, Push Model): the N-ACTION, and the N-EVENT-REPORT on the same association.

A job reads the files, which may take long. A peer named in ``commitment_destinations`` gets the result from that job,
on an association that we open. Any other peer gets it on its own association, once the job is done: on that of its
N-ACTION or, if it hung up before, when it comes back.
"""

from __future__ import annotations

import io
import itertools
import logging
import re
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.commitment import SOP_CLASS, SOP_INSTANCE
from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import BadInput, RadirError
from radir_pacs.intake.commitments import checked_result

log = logging.getLogger(__name__)

_REQUEST_COMMITMENT = 1  # action type, PS3.4 table J.3-1
_MOST_INSTANCES = 50_000
# PS3.7 annex C.
_SUCCESS, _PROCESSING_FAILURE, _NO_SUCH_INSTANCE, _INVALID_ARGUMENT, _NO_SUCH_ACTION = 0, 0x0110, 0x0112, 0x0115, 0x0123
_UID = re.compile(r"[0-9.]{1,64}")


class StorageCommitment:
    """Shared by all associations of a server; what an association is waiting for is kept with it."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue = catalogue
        self._named = {Destination.parse(text).ae_title.strip() for text in settings.commitment_destinations}
        self._message_ids = itertools.count(1)

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        """Answer an N-ACTION: 0000 once the request is durable, so that it survives a restart."""
        request: Any = event.request
        requestor = str(event.assoc.requestor.ae_title).strip()
        if request.RequestedSOPInstanceUID != SOP_INSTANCE:
            return _NO_SUCH_INSTANCE, None
        if request.ActionTypeID != _REQUEST_COMMITMENT:
            return _NO_SUCH_ACTION, None
        try:
            transaction_uid, instances = _asked(event.action_information)
            self._catalogue.commitments.add(transaction_uid, requestor, instances)
        except BadInput as error:
            log.warning("storage commitment refused", extra={"calling_ae": requestor, "reason": str(error)})
            return _INVALID_ARGUMENT, None
        except RadirError as error:
            log.error("storage commitment not taken", extra={"calling_ae": requestor, "error": error.code})
            return _PROCESSING_FAILURE, None
        log.info("storage commitment", extra={"calling_ae": requestor, "instances": len(instances)})
        return _SUCCESS, None

    def report_pending(self, assoc: Any) -> None:
        """Send the results this peer lacks, without waiting for answers. Called in the association's thread."""
        requestor = str(assoc.requestor.ae_title).strip()
        context = next((cx for cx in assoc.accepted_contexts if cx.abstract_syntax == SOP_CLASS), None)
        if context is None or requestor in self._named:
            return
        try:
            for commitment in self._catalogue.commitments.pending(requestor):
                told = replace(commitment, instances=(), failed=())
                if told in assoc.reports_sent.values():
                    continue
                result = checked_result(commitment)
                message_id = next(self._message_ids) % 65_536
                assoc.reports_sent[message_id] = told
                information = result.event_information()
                assoc.dimse.send_msg(_event(message_id, result.event_type, information, context), context.context_id)
        except RadirError as error:
            log.error("storage commitment not reported", extra={"calling_ae": requestor, "error": error.code})

    def on_reported(self, assoc: Any, answer: N_EVENT_REPORT) -> None:
        """The peer's answer to one of our event reports."""
        commitment = assoc.reports_sent.get(answer.MessageIDBeingRespondedTo)
        status = -1 if answer.Status is None else int(answer.Status)
        log.info("event report answered", extra={"status": f"{status:04X}"})
        if commitment is None or status not in (0x0000, 0x0107, 0x0116):
            return
        try:
            self._catalogue.commitments.reported(commitment)
        except RadirError as error:  # the peer will get it once more, which does no harm
            log.error("storage commitment not noted", extra={"error": error.code})


def _asked(information: Dataset) -> tuple[str, list[tuple[str, str]]]:
    """Transaction UID and (class, instance) of the Action Information (PS3.4 table J.3-1). Raises BadInput."""
    try:
        transaction_uid = str(information.TransactionUID)
        items = information.ReferencedSOPSequence
        instances = [(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in items]
    except (AttributeError, ValueError, TypeError, KeyError, NotImplementedError, RecursionError, OSError) as error:
        raise BadInput(f"the action information cannot be read ({type(error).__name__})") from error
    if not instances or len(instances) > _MOST_INSTANCES:
        raise BadInput(f"{len(instances)} instances are referenced, from 1 to {_MOST_INSTANCES} are allowed")
    if not all(_UID.fullmatch(uid) for uid in (transaction_uid, *itertools.chain.from_iterable(instances))):
        raise BadInput("the action information holds a value that is not a UID")
    return transaction_uid, instances


def _event(message_id: int, event_type: int, information: Dataset, context: Any) -> N_EVENT_REPORT:
    syntax = UID(context.transfer_syntax[0])
    primitive = N_EVENT_REPORT()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = SOP_CLASS, SOP_INSTANCE
    primitive.EventTypeID = event_type
    encoded = encode(information, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    primitive.EventInformation = io.BytesIO(encoded or b"")
    return primitive
