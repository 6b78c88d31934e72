"""How the encode job of a study begins and ends."""

from __future__ import annotations

from collections.abc import Sequence

from radir_pacs.catalogue import Catalogue, is_last_attempt
from radir_pacs.errors import BlobAway, BlobDamaged, DicomRefused, ModelGone, NotFound, Quarantined, RadirError, Skipped
from radir_pacs.intake.sources import Sources
from radir_pacs.reasons import WORTH_ANOTHER_DECODE, ReasonCode
from radir_pacs.types import Encoding, Job, JobKind, StudyState

from .runner import fail


class Outcome:
    """Each method is at most one transaction that changes anything; it raises LeaseLost, StorageFailed."""

    def __init__(self, catalogue: Catalogue, sources: Sources) -> None:
        self._catalogue, self._sources = catalogue, sources

    def begin(self, job: Job) -> int | None:
        """The revision of the study that is going to be read.

        None, and the job has ended, for a study that is gone or was re-opened: its next encode job supersedes this one.
        """
        try:
            state, revision = self._catalogue.studies.revision_of(job.study_uid)
        except NotFound:
            self._catalogue.jobs.finish(job, "the study is gone")
            return None
        beside = job.kind is JobKind.REENCODE
        if state is StudyState.RECEIVING or (beside and state not in (StudyState.ENCODED, StudyState.INDEXED)):
            self._catalogue.jobs.finish(job, "superseded")
            return None
        return revision

    def encoded(self, job: Job, revision: int, encodings: Sequence[Encoding]) -> None:
        """The study is ENCODED, unless it was re-opened after that revision; under a model beside, it is as it was."""
        try:
            if job.kind is JobKind.REENCODE:
                for encoding in encodings:
                    self._catalogue.encodings.save_beside(encoding, revision, job)
            else:
                self._catalogue.encodings.save_several(job.key, encodings, revision, job)
        except NotFound as error:
            fail(self._catalogue, job, error)

    def failed(self, job: Job, revision: int, error: Exception) -> None:
        """The study is SKIPPED or QUARANTINED, or the job is tried again where another attempt may go well.

        What a model beside those that serve cannot do changes nothing of the study: the job fails with the reason.
        Files that were removed on purpose are no fault of the study: it goes on answering by its old vectors.
        """
        if isinstance(error, BlobDamaged) and self._catalogue.damage.note(error.sha256, has_source=self._has_source):
            error = BlobAway(error.sha256)
        may_wait = isinstance(error, BlobAway) and self._catalogue.damage.comes_back(error.sha256, self._has_source)
        if may_wait and not is_last_attempt(job, ReasonCode.BLOB_AWAY):  # pulled; its old vectors answer meanwhile
            fail(self._catalogue, job, error)
        elif job.kind is JobKind.REENCODE:
            self._failed_beside(job, error)
        elif isinstance(error, BlobAway) and self._catalogue.encodings.models_of_study(job.key):
            self._end(job, StudyState.INDEXED, error, revision)
        elif isinstance(error, BlobDamaged):
            self._end(job, StudyState.QUARANTINED, error, revision)
        elif isinstance(error, Skipped):
            self._end(job, StudyState.SKIPPED, error, revision)
        elif isinstance(error, (Quarantined, DicomRefused)) and not (
            error.reason_code in WORTH_ANOTHER_DECODE and not is_last_attempt(job, error.reason_code)
        ):
            self._end(job, StudyState.QUARANTINED, error, revision)
        else:
            fail(self._catalogue, job, error)

    def _has_source(self, sites: Sequence[str]) -> bool:
        return self._sources.of(sites) is not None

    def _failed_beside(self, job: Job, error: Exception) -> None:
        if isinstance(error, ModelGone):
            self._catalogue.jobs.finish(job, str(error))
        elif isinstance(error, (Skipped, Quarantined, BlobDamaged)):
            self._catalogue.jobs.fail(job, str(error), reason_code=error.reason_code, retry=False)
        else:
            fail(self._catalogue, job, error)

    def _end(self, job: Job, state: StudyState, reason: RadirError, revision: int) -> None:
        self._catalogue.studies.set_state(
            job.key, state, str(reason), reason_code=reason.reason_code, revision=revision, job=job
        )
