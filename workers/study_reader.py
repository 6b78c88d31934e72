"""A study made ready for the network: planned, decoded in a bounded child, resampled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.pixels import DecodedFrames, PixelDecoder
from radir_pacs.errors import Skipped
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, ImageKind, InstanceHeader, Volume

from .decoding_room import DecodingRoom, GivenUp

Content = Sequence[tuple[InstanceHeader, str]]  # a study's instances, each with the hash of its file
Ready = Callable[[], Encoding]  # runs the network on an input that is resampled already


class VolumeEncoder(Protocol):
    """What makes an encoding of a volume: `radir_pacs.encode.Encoder`, or a fake in tests."""

    def prepare(self, volume: Volume) -> Ready: ...


class EncoderShelf(Protocol):
    """The encoder of each image kind; None where none is served."""

    def encoder(self, kind: ImageKind) -> VolumeEncoder | None: ...


class StudyReader:
    """Not for use by two threads at once. Its decoding child serves study after study: starting one costs a second."""

    def __init__(
        self,
        blobs: BlobStore,
        encoders: EncoderShelf,
        limits: DecodeLimits,
        room: DecodingRoom,
        *,
        lut_shape_senders: Collection[str] = (),
    ) -> None:
        self._blobs = blobs
        self._lut_shape_senders = lut_shape_senders
        self._encoders = encoders
        self._decoder = _Decoder(limits)
        self._room = room

    def read(
        self,
        content: Content,
        given_up: threading.Event | None = None,
        *,
        alone: bool = False,
        last_attempt: bool = True,
    ) -> list[Ready]:
        """One input per kind of image for which a model is served; the voxels are gone by then.

        ``alone``: in a fresh child, with no other decoding on this machine. ``last_attempt``: as in `assemble`.
        Raises Skipped, Quarantined, DicomRefused with the reason why there is none, BlobDamaged for a file that is not
        what was stored, GivenUp between two files.
        """
        if alone:
            self._decoder.close()
        with self._room.alone(given_up) if alone else self._room.shared(given_up):
            return self._read(content, given_up, last_attempt)

    def _read(self, content: Content, given_up: threading.Event | None, last_attempt: bool) -> list[Ready]:
        self._decoder.given_up = given_up
        plan = plan_study(header for header, _ in content)
        paths = _IntactFiles(self._blobs, {header.sop_uid: sha256 for header, sha256 in content}, given_up)
        volumes = assemble(
            plan, paths, self._decoder, last_attempt=last_attempt, lut_shape_senders=self._lut_shape_senders
        )
        pairs = [(self._encoders.encoder(volume.kind), volume) for volume in volumes]
        ready = [encoder.prepare(volume) for encoder, volume in pairs if encoder is not None]
        if not ready:
            kinds = ", ".join(sorted(volume.kind for volume in volumes))
            raise Skipped(f"no model is served for {kinds}", reason_code=ReasonCode.NO_MODEL)
        return ready

    def interrupt(self) -> None:
        """From another thread: the file in hand is given up too."""
        self._decoder.interrupt()

    def close(self) -> None:
        """End the decoding child."""
        self._decoder.close()


class _IntactFiles(Mapping[str, Path]):
    """Path by SOP Instance UID, checked against the file's hash when it is asked for. Raises BlobDamaged, GivenUp."""

    def __init__(self, blobs: BlobStore, hashes: Mapping[str, str], given_up: threading.Event | None) -> None:
        self._blobs, self._hashes, self._given_up = blobs, hashes, given_up

    def __getitem__(self, sop_uid: str) -> Path:
        if self._given_up is not None and self._given_up.is_set():
            raise GivenUp
        return self._blobs.intact(self._hashes[sop_uid])

    def __iter__(self) -> Iterator[str]:
        return iter(self._hashes)

    def __len__(self) -> int:
        return len(self._hashes)


class _Decoder(PixelDecoder):
    given_up: threading.Event | None = None

    def decode(self, path: Path, *, coloured: bool = False) -> DecodedFrames:
        if self.given_up is not None and self.given_up.is_set():
            raise GivenUp
        return super().decode(path, coloured=coloured)
