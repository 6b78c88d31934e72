"""Results of storage commitment as DICOM: the Event Information, and sending it on an association of our own.

PS3.4 annex J: event type 1 says that all instances are committed, type 2 that some are not, with the reason of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import PeerFailed

SOP_CLASS = str(StorageCommitmentPushModel)
SOP_INSTANCE = "1.2.840.10008.1.20.1.1"  # well-known, PS3.4 J.3.5
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_INSTANCE_CONFLICT = 0x0110, 0x0112, 0x0119  # PS3.3 C.14
_ALL_COMMITTED, _FAILURES_EXIST = 1, 2
_TIMEOUT_S = 30
_UP_TO_WARNING = (0x0000, 0x0107, 0x0116)  # PS3.7 10.1.1: success, and the warnings of N-EVENT-REPORT


@dataclass(frozen=True, kw_only=True)
class CommitmentResult:
    """(SOP class UID, SOP instance UID) of what is kept; of what is not, with the failure reason."""

    transaction_uid: str
    committed: Sequence[tuple[str, str]]
    failed: Sequence[tuple[str, str, int]]

    @property
    def event_type(self) -> int:
        return _FAILURES_EXIST if self.failed else _ALL_COMMITTED

    def event_information(self) -> Dataset:
        """PS3.4 table J.3-2."""
        ds = Dataset()
        ds.TransactionUID = self.transaction_uid
        if self.committed:
            ds.ReferencedSOPSequence = [_reference(*pair) for pair in self.committed]
        if self.failed:
            ds.FailedSOPSequence = [_reference(sop_class, uid) for sop_class, uid, _ in self.failed]
            for item, (_, _, reason) in zip(ds.FailedSOPSequence, self.failed, strict=True):
                item.FailureReason = reason
        return ds


def _reference(sop_class_uid: str, sop_uid: str) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
    return ds


def report(result: CommitmentResult, destination: Destination, *, calling_ae: str) -> None:
    """Tell the peer by N-EVENT-REPORT on a new association, in the SCP role (PS3.4 J.3.3). Raises PeerFailed."""
    ae = AE(ae_title=calling_ae)
    ae.network_timeout = ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = _TIMEOUT_S
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title, ext_neg=[role])
    if not association.is_established:
        why = "refused the association" if association.is_rejected else "does not answer"
        raise PeerFailed(f"{destination} {why}")
    try:
        answer, _ = association.send_n_event_report(
            result.event_information(), result.event_type, SOP_CLASS, SOP_INSTANCE
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise PeerFailed(f"{destination} takes no event report ({type(error).__name__})") from error
    finally:
        if association.is_established:
            association.release()
    status = answer.get("Status")
    if status not in _UP_TO_WARNING:
        shown = "no answer" if status is None else f"status {status:04X}"
        raise PeerFailed(f"{destination} did not take the event report: {shown}")
