"""Send job: a structured report that was saved here goes to the PACS by C-STORE."""

from __future__ import annotations

import logging

import pydicom

from radir_pacs.catalogue import Catalogue
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.return_to_pacs import return_to_pacs
from radir_pacs.errors import SettingError
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

log = logging.getLogger(__name__)


class SendReport:
    """The use case of JobKind.SEND; the key is the SOP Instance UID of a stored report.

    A worker that dies after the PACS took the report sends it again: the same UID with the same content, which a PACS
    keeps once.
    """

    def __init__(
        self, catalogue: Catalogue, blobs: BlobStore, *, destination: str, calling_ae_title: str, budget_s: float
    ) -> None:
        self._catalogue, self._blobs = catalogue, blobs
        self._destination = destination
        self._calling_ae_title, self._budget_s = calling_ae_title, budget_s

    def __call__(self, job: Job) -> None:
        """Raises PeerFailed, worth another attempt; NotFound when the report was deleted meanwhile, BlobDamaged."""
        if not self._destination:
            raise SettingError("return_destination: not set, reports cannot be sent")
        instance = self._catalogue.instances.get(job.key)
        log.info("report is sent", extra={"job": job.id, "study_uid": instance.study_uid})
        report = pydicom.dcmread(self._blobs.intact(instance.content_sha256))
        status = return_to_pacs(
            report,
            Destination.parse(self._destination),
            calling_ae_title=self._calling_ae_title,
            budget_s=self._budget_s,
        )
        self._catalogue.jobs.finish(job, f"sent, status {status:04X}")
