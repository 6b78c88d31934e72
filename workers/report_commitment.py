"""Commitment job: the result of a storage commitment, reported on an association of our own (PS3.4 annex J)."""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.delivery.commitment import report
from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import PeerFailed, SettingError
from radir_pacs.intake.commitments import result_of
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job


class ReportCommitment:
    """The use case of JobKind.COMMITMENT; the key is the id of a commitment."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore, settings: Settings) -> None:
        self._catalogue, self._blobs, self._settings = catalogue, blobs, settings

    def __call__(self, job: Job) -> None:
        """Ends the job. Raises PeerFailed, worth another attempt; the last one leaves a row among the problems."""
        commitment = self._catalogue.commitments.get(int(job.key))
        if commitment.is_reported:
            self._catalogue.jobs.finish(job)
            return
        try:
            result = result_of(commitment, self._catalogue, self._blobs)
            report(result, self._destination(commitment.requestor), calling_ae=self._settings.ae_title)
        except (PeerFailed, SettingError) as error:
            if job.attempt >= job.max_attempts:
                reason = f"the result of a storage commitment could not be reported, {error}: see the setting"
                self._catalogue.refusals.add(
                    sop_uid=None,
                    reason=f"{reason} commitment_destinations; the peer may ask again",
                    dimse_status=None,
                    source=commitment.requestor,
                )
            raise
        self._catalogue.commitments.reported(commitment.id)
        self._catalogue.jobs.finish(job, f"{len(result.committed)} committed, {len(result.failed)} not")

    def _destination(self, requestor: str) -> Destination:
        for text in self._settings.commitment_destinations:
            destination = Destination.parse(text)
            if destination.ae_title.strip() == requestor:
                return destination
        raise SettingError(f"commitment_destinations: {requestor} is not named there any more")
