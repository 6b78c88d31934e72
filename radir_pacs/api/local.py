"""Without an installation: load a bundle, encode files, rank them exactly, mine a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from radir_pacs import anatomy
from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.encode import Bundle, Encoder, default_bundles
from radir_pacs.errors import BadInput, Skipped
from radir_pacs.index.exact import exact_search
from radir_pacs.reasons import ReasonCode
from radir_pacs.reports import MinedReport
from radir_pacs.reports import mine as mine_report
from radir_pacs.types import F32, Encoding, ImageKind, InstanceHeader

AnyPath = str | PathLike[str]


class Model:
    """A bundle ready to encode. Not thread-safe. ``bundle_folder``: where it was loaded from."""

    def __init__(self, bundle_folder: Path, *, device: str = "auto", threads: int = 0) -> None:
        self.bundle_folder = bundle_folder
        self.bundle = Bundle.load(bundle_folder)
        self._encoder = Encoder(self.bundle, device, threads)

    @property
    def model_id(self) -> str:
        return self.bundle.model_id

    @property
    def kind(self) -> ImageKind:
        return self.bundle.kind

    @property
    def regions(self) -> tuple[str, ...]:
        """Keys of the regions that have a vector."""
        return self._encoder.regions

    def encode(self, *paths: AnyPath) -> Encoding:
        """The encoding of one study from its DICOM files: of one radiograph, or of all slices of a CT.

        As the service does, it takes the best image of the model's kind. Raises DicomRefused for a file that cannot be
        read, Skipped where no image is of the kind, Quarantined where none can be decoded, BadInput for two studies.
        """
        headers: dict[str, tuple[InstanceHeader, Path]] = {}
        for path in map(Path, paths):
            header = read_header(path)
            headers[header.sop_uid] = header, path
        if len({header.study_uid for header, _ in headers.values()}) > 1:
            raise BadInput("the files are of several studies: encode one at a time")
        plan = plan_study(header for header, _ in headers.values())
        with PixelDecoder() as decoder:
            volumes = assemble(plan, {uid: path for uid, (_, path) in headers.items()}, decoder)
        for volume in volumes:
            if volume.kind is self.kind:
                return self._encoder.encode(volume)
        raise Skipped(f"no image of the kind {self.kind} is among the files", reason_code=ReasonCode.NO_IMAGE)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """``score``: cosine of the two region vectors. ``region``: the key of the region that answered."""

    study_uid: str
    score: float
    region: str


def load_bundle(folder: AnyPath | None = None, *, kind: str = "cxr", device: str = "auto", threads: int = 0) -> Model:
    """A verified model; without a folder the one that ships for ``kind``, "cxr" or "ct". Raises BundleRefused."""
    place = default_bundles()[_kind(kind)] if folder is None else Path(folder)
    return Model(place, device=device, threads=threads)


def rank(query: Encoding, studies: Iterable[Encoding], region: str = "chest", limit: int = 10) -> list[Ranked]:
    """The studies most like ``query`` at a region in words, best first, by exact search; ``query``'s own is left out.

    Where the query or too few others show the region, the nearest region above it answers, as ``Ranked.region`` says.
    Raises BadInput for a region that is not known, or for encodings of several models.
    """
    others = [one for one in studies if one.study_uid != query.study_uid]
    if any(one.model_id != query.model_id for one in others):
        raise BadInput("vectors of different models cannot be compared")
    asked = anatomy.look_up(region).key
    for key in (asked, *(above.key for above in anatomy.ancestors(asked))):
        own = _vector(query, key)
        rows = [(one, vector) for one in others for vector in [_vector(one, key)] if vector is not None]
        if own is None or not rows:
            continue
        vectors = np.stack([vector for _, vector in rows])
        found, scores = exact_search(vectors, np.arange(len(rows)), own, limit)
        return [
            Ranked(study_uid=rows[row][0].study_uid, score=float(score), region=key)
            for row, score in zip(found, scores, strict=True)
        ]
    return []


def mine(text: str, kind: str | None = None) -> MinedReport:
    """What a report says: its findings, each with region, polarity, certainty, severity and its place in the text."""
    return mine_report(text, None if kind is None else _kind(kind))


def _vector(encoding: Encoding, key: str) -> F32 | None:
    return encoding.vectors[encoding.regions.index(key)] if key in encoding.regions else None


def _kind(word: str) -> ImageKind:
    kinds: Sequence[ImageKind] = list(ImageKind)
    if word.upper() not in kinds:
        raise BadInput(f"{word!r} is no kind of image: {', '.join(kinds).lower()}")
    return ImageKind(word.upper())
