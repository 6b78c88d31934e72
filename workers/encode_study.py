"""Encode job: the instances of a study become region vectors, or the study says why not."""

from __future__ import annotations

from radir_pacs.blobs import BlobStore
from radir_pacs.catalogue import Catalogue
from radir_pacs.dicom.limits import MIB, DecodeLimits
from radir_pacs.errors import DicomRefused, NotFound, Quarantined, Skipped
from radir_pacs.types import Encoding, Job, StudyState

from .look_ahead import LookAhead
from .study_reader import EncoderShelf, StudyReader


class EncodeStudy:
    """The use case of JobKind.ENCODE; the key is a study UID.

    ``look_ahead``: read the next study while the network works on this one. For a worker that has a queue to itself;
    several beside each other keep the cores busy anyway.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        blobs: BlobStore,
        encoders: EncoderShelf,
        *,
        decode_timeout_s: float,
        decode_memory_mib: int,
        look_ahead: bool = True,
    ) -> None:
        self._catalogue = catalogue
        limits = DecodeLimits(
            memory_bytes=decode_memory_mib * MIB, cpu_s=max(1, int(decode_timeout_s)), wall_s=decode_timeout_s
        )
        self._reader = StudyReader(blobs, encoders, limits)
        self._ahead = LookAhead(catalogue, StudyReader(blobs, encoders, limits)) if look_ahead else None

    def __call__(self, job: Job) -> None:
        """Ends the job with the study ENCODED, SKIPPED or QUARANTINED.

        A study that is gone or was re-opened ends the job only: its next encode job supersedes this one.
        """
        study_uid = job.key
        try:
            state, revision = self._catalogue.studies.revision_of(study_uid)
        except NotFound:
            self._catalogue.jobs.finish(job, "the study is gone")
            return
        if state is StudyState.RECEIVING:
            self._catalogue.jobs.finish(job, "superseded")
            return
        try:
            encodings = self._encode(study_uid)
        except Skipped as reason:
            self._end(job, StudyState.SKIPPED, str(reason), revision)
        except (Quarantined, DicomRefused) as reason:
            self._end(job, StudyState.QUARANTINED, str(reason), revision)
        else:
            self._catalogue.encodings.save_several(study_uid, encodings, revision, job)

    def close(self) -> None:
        """End the decoding children."""
        if self._ahead is not None:
            self._ahead.close()
        self._reader.close()

    def _end(self, job: Job, state: StudyState, reason: str, revision: int) -> None:
        self._catalogue.studies.set_state(job.key, state, reason, revision=revision, job=job)

    def _encode(self, study_uid: str) -> list[Encoding]:
        """One encoding a kind of image, of those kinds that a model is served for."""
        ready = None
        if self._ahead is not None:
            ready = self._ahead.take(study_uid)
            self._ahead.begin()
        if ready is None:
            ready = self._reader.read(self._catalogue.instances.headers_of(study_uid))
        return [run() for run in ready]
