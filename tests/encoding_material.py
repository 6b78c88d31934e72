"""Encoding with the real parts around a network that is a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from radir_pacs.catalogue import Catalogue
from radir_pacs.dicom.limits import DecodeLimits
from radir_pacs.encode import CONFIGS, EncoderInput, Preprocessing
from radir_pacs.types import Encoding, ImageKind, KeptTokens
from radir_workers.encode_studies import EncodeStudies
from radir_workers.leases import Leases
from radir_workers.readers import Readers
from radir_workers.reading_child import ReadingSetup
from tests.catalogue_material import MODEL, encoding

Network = Callable[[EncoderInput], Encoding]


class FakeShelf:
    """Encodes radiographs by a function, and serves no other kind. ``batches``: study UIDs of each batch so far."""

    how: Mapping[ImageKind, Preprocessing] = {ImageKind.CXR: Preprocessing.of(CONFIGS["tiny"], ImageKind.CXR)}

    def __init__(self, network: Network, batch_limit: int = 64) -> None:
        self.network, self._batch_limit = network, batch_limit
        self.batches: list[list[str]] = []

    def look(self) -> None:
        """Nothing ever changes."""

    def preparing(self, model_id: str | None) -> Mapping[ImageKind, tuple[str, Preprocessing]]:
        return {kind: (model_id or MODEL, how) for kind, how in self.how.items()}

    def tokens_of(self, model_id: str) -> str | None:
        return None

    def batch_limit(self, model_id: str) -> int:
        return self._batch_limit

    def encoder(self, model_id: str) -> FakeShelf:
        return self

    def encode_batch(self, inputs: Sequence[EncoderInput | KeptTokens]) -> list[Encoding | Exception]:
        self.batches.append([one.study_uid for one in inputs])
        found: list[Encoding | Exception] = []
        for one in inputs:
            assert isinstance(one, EncoderInput), "this shelf keeps no tokens"
            try:
                found.append(self.network(one))
            except Exception as error:
                found.append(error)
        return found


def by_hand(one: EncoderInput) -> Encoding:
    """The vectors of `tests.catalogue_material.encoding`, whatever the image shows."""
    return replace(encoding(), study_uid=one.study_uid, series_uid=one.series_uid)


@contextmanager
def encoding_line(
    catalogue: Catalogue, blobs: Path, shelf: FakeShelf, *, readers: int = 1, worker: str = "test", lease_s: float = 60
) -> Iterator[EncodeStudies]:
    """What a worker runs at each announcement of jobs."""
    setup = ReadingSetup(blobs=blobs, limits=DecodeLimits())
    with Leases(catalogue, lease_s=lease_s) as leases:
        line = EncodeStudies(catalogue, shelf, Readers(setup, readers), leases, worker=worker)
        try:
            yield line
        finally:
            line.close()
