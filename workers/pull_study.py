"""Pull job: a PACS handed over a reference, and the study's instances are fetched from it by WADO-RS (PS3.18 10.4).

The answer goes to disk as it comes, one instance at a time, within bounds of bytes, rate and time: whatever the PACS
does, a pull takes a fixed memory and ends (P6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from radir_pacs.catalogue import Catalogue
from radir_pacs.dicom.header import read_header
from radir_pacs.errors import DicomRefused, LeaseLost, NotFound, PeerFailed, SettingError, StorageFailed, TooLarge
from radir_pacs.intake.bounded_answer import AnswerBounds
from radir_pacs.intake.instances import MISMATCH, OUT_OF_RESOURCES, PULLED, Intake
from radir_pacs.intake.sources import Sources
from radir_pacs.intake.wado_rs import instances_at
from radir_pacs.multipart import BrokenMultipart, TooManyParts
from radir_pacs.printable import counted
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Job

_MOST_INSTANCES = 100_000  # of one study, which no PACS sends in several answers


class PullStudy:
    """The use case of JobKind.PULL; the key is a study UID.

    A job that ended half-way starts again; what is here already is known by its content.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        blobs: BlobStore,
        intake: Intake,
        sources: Sources,
        bounds: AnswerBounds,
        *,
        most_instance_bytes: int,
        site: str = PULLED,
    ) -> None:
        """site: the label of studies that come by a pull; one that is here already keeps its sites."""
        self._catalogue, self._blobs, self._intake = catalogue, blobs, intake
        self._sources, self._bounds, self._most_instance_bytes = sources, bounds, most_instance_bytes
        self._site = site

    def __call__(self, job: Job) -> None:
        """Ends the job with the study complete, as failed where not every instance could be kept.

        Raises PeerFailed, StorageFailed: worth another attempt.
        """
        pacs = self._sources.of(self._sites_of(job.key))
        if pacs is None:
            raise SettingError("pull_url: not set, studies cannot be pulled")
        kept = refused = 0
        try:
            asked = instances_at(pacs, f"studies/{job.key}", self._bounds, most=_MOST_INSTANCES)
            with contextlib.closing(asked) as instances:
                for body in instances:
                    if self._keep(body, job):
                        kept += 1
                    else:
                        refused += 1
        except (BrokenMultipart, TooManyParts) as error:
            raise PeerFailed(
                f"the PACS's answer is malformed: {error}", reason_code=ReasonCode.PEER_BAD_ANSWER
            ) from None
        if kept:
            self._catalogue.studies.complete_now(job.key)
        said = f"{counted(kept, 'instance')} kept, {refused} refused"
        if refused:  # the same ones would be refused again; radir problems lists them
            self._catalogue.jobs.fail(job, said, retry=False, reason_code=ReasonCode.PEER_INCOMPLETE)
        else:
            self._catalogue.jobs.finish(job, said)

    def _require_held(self, job: Job) -> None:
        """Raise LeaseLost where the job is gone: what was erased meanwhile must not come back."""
        held = self._catalogue.jobs.get(job.id)
        if held is None or held.token != job.token:
            raise LeaseLost(f"job {job.id} is another's by now")

    def _keep(self, body: Iterable[bytes], job: Job) -> bool:
        self._intake.check_room()
        with self._blobs.incoming() as incoming:
            for chunk in body:
                incoming.write(chunk)
                if incoming.size_bytes > self._most_instance_bytes:
                    large = TooLarge(f"larger than {self._most_instance_bytes >> 20} MiB")
                    self._intake.refuse(large, source=PULLED, sop_uid=None)
                    return False  # the rest of the part is skipped
            try:
                header = read_header(incoming.path)
                if header.study_uid != job.key:
                    raise DicomRefused("the PACS sent an instance of another study", dimse_status=MISMATCH)
            except DicomRefused as error:
                self._intake.refuse(error, source=PULLED, sop_uid=None)
                return False
            self._require_held(job)
            outcome = self._intake.store(incoming, source=PULLED, site=self._sites_of(job.key)[0], own_only=False)
        if outcome.status == OUT_OF_RESOURCES:
            raise StorageFailed(outcome.reason)
        return outcome.ok

    def _sites_of(self, study_uid: str) -> tuple[str, ...]:
        """Where the study is from: a pull brings what its PACS has of it, and adds no sender."""
        with contextlib.suppress(NotFound):
            return self._catalogue.studies.get(study_uid).sites or (self._site,)
        return (self._site,)
