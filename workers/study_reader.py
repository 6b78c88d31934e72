"""A study made ready for the network: planned, decoded in a bounded child, resampled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.dicom.pixels import DecodedFrames, PixelDecoder
from radir_pacs.errors import Skipped
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import Encoding, ImageKind, InstanceHeader, Volume

Content = Sequence[tuple[InstanceHeader, str]]  # a study's instances, each with the hash of its file
Ready = Callable[[], Encoding]  # runs the network on an input that is resampled already


class VolumeEncoder(Protocol):
    """What makes an encoding of a volume: `radir_pacs.encode.Encoder`, or a fake in tests."""

    def prepare(self, volume: Volume) -> Ready: ...


class EncoderShelf(Protocol):
    """The encoder of each image kind; None where none is served."""

    def encoder(self, kind: ImageKind) -> VolumeEncoder | None: ...


class GivenUp(Exception):
    """Nobody wants this study read any more."""


class StudyReader:
    """Not for use by two threads at once. Its decoding child serves study after study: starting one costs a second."""

    def __init__(
        self,
        blobs: BlobStore,
        encoders: EncoderShelf,
        limits: DecodeLimits,
        *,
        lut_shape_senders: Collection[str] = (),
    ) -> None:
        self._blobs = blobs
        self._lut_shape_senders = lut_shape_senders
        self._encoders = encoders
        self._decoder = _Decoder(limits)

    def read(self, content: Content, given_up: threading.Event | None = None) -> list[Ready]:
        """One input a kind of image, of those kinds that a model is served for; the voxels are gone by then.

        Raises Skipped, Quarantined, DicomRefused with the reason why there is none, GivenUp between two files.
        """
        self._decoder.given_up = given_up
        plan = plan_study(header for header, _ in content)
        paths = {header.sop_uid: self._blobs.path(sha256) for header, sha256 in content}
        volumes = assemble(plan, paths, self._decoder, lut_shape_senders=self._lut_shape_senders)
        pairs = [(self._encoders.encoder(volume.kind), volume) for volume in volumes]
        ready = [encoder.prepare(volume) for encoder, volume in pairs if encoder is not None]
        if not ready:
            kinds = ", ".join(sorted(volume.kind for volume in volumes))
            raise Skipped(f"no model is served for {kinds}")
        return ready

    def interrupt(self) -> None:
        """From another thread: the file in hand is given up too."""
        self._decoder.interrupt()

    def close(self) -> None:
        """End the decoding child."""
        self._decoder.close()


class _Decoder(PixelDecoder):
    given_up: threading.Event | None = None

    def decode(self, path: Path, *, coloured: bool = False) -> DecodedFrames:
        if self.given_up is not None and self.given_up.is_set():
            raise GivenUp
        return super().decode(path, coloured=coloured)
