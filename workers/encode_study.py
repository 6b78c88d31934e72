"""Encode job: the instances of a study become region vectors, or the study says why not."""

from __future__ import annotations

from collections.abc import Collection

from radir_pacs.catalogue import Catalogue, is_last_attempt
from radir_pacs.dicom.limits import MIB, DecodeLimits
from radir_pacs.errors import BlobDamaged, DicomRefused, NotFound, Quarantined, RadirError, Skipped
from radir_pacs.reasons import KILLED, WORTH_ANOTHER_DECODE
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, Job, StudyState

from .decoding_room import DecodingRoom
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
        lut_shape_senders: Collection[str] = (),
        look_ahead: bool = True,
    ) -> None:
        self._catalogue = catalogue
        room = DecodingRoom(blobs.root)
        limits = DecodeLimits(
            memory_bytes=decode_memory_mib * MIB, cpu_s=max(1, int(decode_timeout_s)), wall_s=decode_timeout_s
        )

        def reader() -> StudyReader:
            return StudyReader(blobs, encoders, limits, room, lut_shape_senders=lut_shape_senders)

        self._reader = reader()
        self._ahead = LookAhead(catalogue, reader()) if look_ahead else None

    def __call__(self, job: Job) -> None:
        """Ends the job with the study ENCODED, SKIPPED or QUARANTINED.

        A study that is gone or was re-opened ends the job only: its next encode job supersedes this one. Raises
        DicomRefused when the decoding child failed in a way that another attempt may not meet.
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
            encodings = self._encode(job)
        except BlobDamaged as reason:
            self._catalogue.damage.note(reason.sha256)
            self._end(job, StudyState.QUARANTINED, reason, revision)
        except Skipped as reason:
            self._end(job, StudyState.SKIPPED, reason, revision)
        except (Quarantined, DicomRefused) as reason:
            if reason.reason_code in WORTH_ANOTHER_DECODE and not is_last_attempt(job, reason.reason_code):
                raise
            self._end(job, StudyState.QUARANTINED, reason, revision)
        else:
            self._catalogue.encodings.save_several(study_uid, encodings, revision, job)

    def close(self) -> None:
        """End the decoding children."""
        if self._ahead is not None:
            self._ahead.close()
        self._reader.close()

    def _end(self, job: Job, state: StudyState, reason: RadirError, revision: int) -> None:
        self._catalogue.studies.set_state(
            job.key, state, str(reason), reason_code=reason.reason_code, revision=revision, job=job
        )

    def _encode(self, job: Job) -> list[Encoding]:
        """One encoding per kind of image for which a model is served."""
        alone = job.reason_code in KILLED
        ready = None
        if self._ahead is not None and alone:
            self._ahead.close()
        elif self._ahead is not None:
            ready = self._ahead.take(job.key)
            self._ahead.begin()
        if ready is None:
            ready = self._reader.read(
                self._catalogue.instances.headers_of(job.key),
                alone=alone,
                last_attempt=job.attempt >= job.max_attempts,
            )
        return [run() for run in ready]
