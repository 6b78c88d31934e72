"""Commitment job (PS3.4 annex J): read the files of a storage commitment, and keep the result for the peer.

A peer that is named in ``commitment_destinations`` is told at once on an association of our own, any other one by the
listener on the peer's.
"""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue, Commitment
from radir_pacs.config import Settings
from radir_pacs.delivery.commitment import CommitmentResult, report
from radir_pacs.delivery.destination import Destination
from radir_pacs.errors import PeerFailed
from radir_pacs.intake.commitments import check
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job


class ReportCommitment:
    """The use case of JobKind.COMMITMENT; the key is the id of a commitment."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore, settings: Settings) -> None:
        self._catalogue, self._blobs, self._settings = catalogue, blobs, settings

    def __call__(self, job: Job) -> None:
        """Ends the job. Raises PeerFailed, worth another attempt; the last one leaves a row among the problems.

        A request that is made again while this runs keeps its job open, which then runs again.
        """
        commitment = self._catalogue.commitments.get(int(job.key))
        if commitment.is_reported:
            self._catalogue.jobs.finish(job)
            return
        result = check(commitment, self._catalogue, self._blobs)
        destination = self._destination(commitment.requestor)
        if destination is None:
            self._catalogue.commitments.checked(commitment, result.failed)
        else:
            self._report(job, commitment, result, destination)
        self._catalogue.jobs.finish(job, f"{len(result.committed)} committed, {len(result.failed)} not")

    def _report(self, job: Job, commitment: Commitment, result: CommitmentResult, destination: Destination) -> None:
        try:
            report(result, destination, calling_ae=self._settings.ae_title)
        except PeerFailed as error:
            if job.attempt >= job.max_attempts:
                reason = f"the result of a storage commitment could not be reported, {error}: see the setting"
                self._catalogue.refusals.add(
                    sop_uid=None,
                    reason=f"{reason} commitment_destinations; the peer may ask again",
                    dimse_status=None,
                    source=commitment.requestor,
                )
            raise
        self._catalogue.commitments.reported(commitment)

    def _destination(self, requestor: str) -> Destination | None:
        """Where the peer wants its results, None where it gets them on its own association."""
        destinations = map(Destination.parse, self._settings.commitment_destinations)
        return next((one for one in destinations if one.ae_title.strip() == requestor), None)
