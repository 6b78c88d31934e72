"""A study made ready for the network: planned, decoded in a bounded child, resampled. No torch here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.rules import Rules
from radir_pacs.encode import EncoderInput, Preprocessing, encoder_input
from radir_pacs.errors import Skipped
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, InstanceHeader

from .decoding_room import DecodingRoom

Content = Sequence[tuple[InstanceHeader, str]]  # a study's instances, each with the hash of its file
Preparing = Mapping[ImageKind, Preprocessing]


class StudyReader:
    """Not for use by two threads at once. Its decoding child serves study after study: starting one costs a second."""

    def __init__(
        self,
        blobs: BlobStore,
        limits: DecodeLimits,
        *,
        lut_shape_senders: Collection[str] = (),
        rules: Rules | None = None,
    ) -> None:
        self._blobs = blobs
        self._lut_shape_senders, self._rules = lut_shape_senders, rules
        self._decoder = PixelDecoder(limits)
        self._room = DecodingRoom(blobs.root)

    def read(
        self, content: Content, preparing: Preparing, *, alone: bool = False, last_attempt: bool = True
    ) -> list[EncoderInput]:
        """One input per kind of image in ``preparing``, which says how it is prepared; the voxels are gone by then.

        ``alone``: in a fresh child, with no other decoding on this machine. ``last_attempt``: as in `assemble`.
        Raises Skipped, Quarantined, DicomRefused with the reason why there is none, BlobDamaged for a file that is not
        what was stored.
        """
        if alone:
            self._decoder.close()
        with self._room.alone() if alone else self._room.shared():
            return self._read(content, preparing, last_attempt)

    def _read(self, content: Content, preparing: Preparing, last_attempt: bool) -> list[EncoderInput]:
        plan = plan_study((header for header, _ in content), self._rules)
        paths = _IntactFiles(self._blobs, {header.sop_uid: sha256 for header, sha256 in content})
        volumes = assemble(
            plan, paths, self._decoder, last_attempt=last_attempt, lut_shape_senders=self._lut_shape_senders
        )
        pairs = [(preparing.get(volume.kind), volume) for volume in volumes]
        inputs = [encoder_input(volume, how) for how, volume in pairs if how is not None]
        if not inputs:
            kinds = ", ".join(sorted(volume.kind for volume in volumes))
            raise Skipped(f"no model is served for {kinds}", reason_code=ReasonCode.NO_MODEL)
        return inputs

    def close(self) -> None:
        """End the decoding child."""
        self._decoder.close()


class _IntactFiles(Mapping[str, Path]):
    """Path by SOP Instance UID, checked against the file's hash when it is asked for. Raises BlobDamaged."""

    def __init__(self, blobs: BlobStore, hashes: Mapping[str, str]) -> None:
        self._blobs, self._hashes = blobs, hashes

    def __getitem__(self, sop_uid: str) -> Path:
        return self._blobs.intact(self._hashes[sop_uid])

    def __iter__(self) -> Iterator[str]:
        return iter(self._hashes)

    def __len__(self) -> int:
        return len(self._hashes)
