"""What comes by C-STORE: into a file as it was sent, then to the intake. No data set is decoded here."""

from __future__ import annotations

import logging

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION
from pynetdicom.association import Association

from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import Audit
from radir_pacs.dicom.file_head import file_head
from radir_pacs.errors import DicomRefused, RadirError
from radir_pacs.intake.instances import OUT_OF_RESOURCES, Intake, StoreOutcome
from radir_pacs.listener.c_store import StoreRequest
from radir_pacs.listener.instance_file import InstanceFile
from radir_pacs.storage.blobs import BlobStore

log = logging.getLogger(__name__)


class Instances:
    """Shared by all associations of one server."""

    def __init__(self, intake: Intake, blobs: BlobStore, audit: Audit, *, most_bytes: int) -> None:
        self._intake, self._blobs, self._audit, self._most_bytes = intake, blobs, audit, most_bytes

    def begin(self, request: StoreRequest, *, transfer_syntax_uid: str) -> InstanceFile:
        """A file for the data set, after the head that pynetdicom would write: the same bytes have the same hash."""
        head = file_head(
            sop_class_uid=request.sop_class_uid,
            sop_uid=request.sop_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            implementation_class_uid=PYNETDICOM_IMPLEMENTATION_UID,
            implementation_version=PYNETDICOM_IMPLEMENTATION_VERSION,
        )
        return InstanceFile(request, self._blobs, head, most_bytes=self._most_bytes)

    def store(self, file: InstanceFile, source: str, site: str | None = None) -> StoreOutcome:
        """Durable, or refused with the reason; by calling AE title, and the label of its site. Raises nothing."""
        try:
            outcome = self._store(file, source, site)
        except Exception as error:  # the edge of a process: the peer gets a failure and keeps its copy
            log.exception("store failed", extra={"error": type(error).__name__})
            outcome = StoreOutcome(status=OUT_OF_RESOURCES, reason="storing failed")
        finally:
            file.discard()
        log.log(
            logging.DEBUG if outcome.ok else logging.INFO,
            "C-STORE",
            extra={"sop_uid": outcome.sop_uid, "study_uid": outcome.study_uid, "status": f"{outcome.status:04X}"},
        )
        return outcome

    def note_received(self, study_uid: str, calling_ae: str, address: str) -> None:
        """Record that this peer stored in the study; what is stored stays stored, whether it can be recorded or not."""
        by = Caller(name=calling_ae, role=Role.PEER, address=address)
        try:
            self._audit.note(AuditEvent.STORED, by, study_uid)
        except RadirError as error:
            log.error("a receipt is not in the audit trail", extra={"study_uid": study_uid, "error": error.code})

    def _store(self, file: InstanceFile, source: str, site: str | None) -> StoreOutcome:
        request = file.request
        failure = file.failure
        if failure is None and not request.has_data_set:
            failure = DicomRefused("the request has no data set")
        if failure is not None or file.blob is None:
            assert failure is not None
            return self._intake.refuse(failure, source=source, sop_uid=request.sop_uid or None)
        return self._intake.store(
            file.blob, source=source, site=site, sop_class_uid=request.sop_class_uid, sop_uid=request.sop_uid
        )


def calling_ae_of(association: Association) -> str:
    return str(association.requestor.ae_title).strip()
