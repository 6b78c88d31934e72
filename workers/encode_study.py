"""Encode job: the instances of a study become region vectors, or the study says why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from radir_pacs.blobs import BlobStore
from radir_pacs.catalogue import Catalogue
from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.limits import MIB, DecodeLimits
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.errors import DicomRefused, NotFound, Quarantined, Skipped
from radir_pacs.types import Encoding, ImageKind, InstanceHeader, Job, StudyState, Volume


class VolumeEncoder(Protocol):
    """What makes an encoding of a volume: `radir_pacs.encode.Encoder`, or a fake in tests."""

    def encode(self, volume: Volume) -> Encoding: ...


class EncoderShelf(Protocol):
    """The encoder of each image kind; None where none is served."""

    def encoder(self, kind: ImageKind) -> VolumeEncoder | None: ...


class EncodeStudy:
    """The use case of JobKind.ENCODE; the key is a study UID."""

    def __init__(
        self,
        catalogue: Catalogue,
        blobs: BlobStore,
        encoders: EncoderShelf,
        *,
        decode_timeout_s: float,
        decode_memory_mib: int,
    ) -> None:
        self._catalogue = catalogue
        self._blobs = blobs
        self._encoders = encoders
        limits = DecodeLimits(
            memory_bytes=decode_memory_mib * MIB, cpu_s=max(1, int(decode_timeout_s)), wall_s=decode_timeout_s
        )
        self._decoder = PixelDecoder(limits)  # its child serves study after study: starting one costs a second

    def __call__(self, job: Job) -> None:
        """Ends the job with the study ENCODED, SKIPPED or QUARANTINED.

        A study that is gone or was re-opened ends the job only: its next encode job supersedes this one.
        """
        study_uid = job.key
        try:
            state, revision = self._catalogue.revision_of(study_uid)
        except NotFound:
            self._catalogue.finish(job, "the study is gone")
            return
        if state is StudyState.RECEIVING:
            self._catalogue.finish(job, "superseded")
            return
        try:
            encodings = self._encode(self._catalogue.headers_of(study_uid))
        except Skipped as reason:
            self._end(job, StudyState.SKIPPED, str(reason), revision)
        except (Quarantined, DicomRefused) as reason:
            self._end(job, StudyState.QUARANTINED, str(reason), revision)
        else:
            self._catalogue.save_encodings(study_uid, encodings, revision, job)

    def close(self) -> None:
        """End the decoding child."""
        self._decoder.close()

    def _end(self, job: Job, state: StudyState, reason: str, revision: int) -> None:
        self._catalogue.set_study_state(job.key, state, reason, revision=revision, job=job)

    def _encode(self, content: Sequence[tuple[InstanceHeader, str]]) -> list[Encoding]:
        """One encoding a kind of image, of those kinds that a model is served for."""
        plan = plan_study(header for header, _ in content)
        paths = {header.sop_uid: self._blobs.path(sha256) for header, sha256 in content}
        volumes = assemble(plan, paths, self._decoder)
        pairs = [(self._encoders.encoder(volume.kind), volume) for volume in volumes]
        encodings = [encoder.encode(volume) for encoder, volume in pairs if encoder is not None]
        if not encodings:
            kinds = ", ".join(sorted(volume.kind for volume in volumes))
            raise Skipped(f"no model is served for {kinds}")
        return encodings
