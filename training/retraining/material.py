"""A snapshot as studies in memory: image tokens for a head, pixels for a whole network.

Nothing of it is left on disk, but for prepared pixels in the run's work folder, which goes with the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radir_pacs.catalogue import Catalogue, StudyToTrain
from radir_pacs.dicom.eligibility import assemble, plan_study
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.encode import Bundle, Encoder, encoder_input
from radir_pacs.encode.network import view_index
from radir_pacs.encode.tokens import encoder_id
from radir_pacs.errors import BadInput, BlobDamaged, DicomRefused, NotFound, Quarantined, Skipped
from radir_pacs.reasons import ReasonCode
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.types import ImageKind, KeptTokens, View, Volume

from ..data.people import patient_codes
from ..data.prepared import prepare
from ..data.statements import mined
from ..data.studies import F16, StudySet
from .snapshot import patient_name, report_hash
from .survey import with_tokens

PAGE = 256  # studies whose tokens are read at a time
Progress = Callable[[int, int], None]  # done, of


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Of each study: sex, age group and scanner, None where it is not known."""

    sex: tuple[str | None, ...]
    age: tuple[str | None, ...]
    scanner: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Studies and what they are grouped by; ``held_out``: bool [n]. ``left_out``: of the snapshot, by reason."""

    data: StudySet
    groups: Groups
    held_out: np.ndarray
    study_uids: tuple[str, ...]
    left_out: dict[str, int]


def studies_of(catalogue: Catalogue, run_id: int, model_id: str) -> tuple[list[tuple[StudyToTrain, bool]], int]:
    """(study, whether it is held out) of the snapshot, and how many have gone or changed since it was taken."""
    seen = {study.study_uid: study for study in catalogue.retraining.snapshot(run_id)}
    found = []
    for study in catalogue.retraining.studies(model_id):
        then = seen.get(study.study_uid)
        if then and then.revision == study.revision and then.report_sha256 == report_hash(study.body):
            found.append((study, then.held_out))
    return found, len(seen) - len(found)


def fill(
    catalogue: Catalogue,
    blobs: BlobStore,
    bundle: Bundle,
    studies: Sequence[str],
    progress: Progress,
    threads: int = 0,
    *,
    anew: bool = False,
) -> int:
    """Make the tokens that these studies lack, or all of them, from their pixels; returns how many were made.

    A study that cannot be read has none.
    """
    there = set() if anew else with_tokens(catalogue, bundle, list(studies))
    wanted = [uid for uid in studies if uid not in there]
    encoder = Encoder(bundle, "cpu" if threads else "auto", threads, keep_tokens=True)
    made = 0
    with PixelDecoder() as decoder:
        for number, study_uid in enumerate(wanted):
            progress(number, len(wanted))
            try:
                revision = catalogue.studies.revision_of(study_uid)[1]
                volume = volume_of(catalogue, blobs, study_uid, bundle.kind, decoder)
                [encoding] = encoder.encode_batch([encoder_input(volume, bundle.preprocessing)])
            except (DicomRefused, Quarantined, Skipped, BlobDamaged, NotFound):  # NotFound: deleted meanwhile
                continue
            if isinstance(encoding, Exception) or encoding.tokens is None:
                continue
            kept = KeptTokens(
                study_uid=study_uid,
                series_uid=encoding.series_uid,
                sop_uid=encoding.sop_uid,
                revision=revision,
                tokens=encoding.tokens,
                slices=encoding.slices,
                warnings=encoding.warnings,
            )
            catalogue.image_tokens.keep([kept])
            made += 1
    progress(len(wanted), len(wanted))
    return made


def _tokens(catalogue: Catalogue, bundle: Bundle, studies: Sequence[str]) -> Iterator[KeptTokens]:
    encoder = encoder_id(bundle)
    if encoder is None:
        raise BadInput(f"{bundle.model_id} is a network from elsewhere: no image tokens of it are kept")
    for start in range(0, len(studies), PAGE):
        yield from catalogue.image_tokens.of(encoder, studies[start : start + PAGE])


def volume_of(catalogue: Catalogue, blobs: BlobStore, study_uid: str, kind: ImageKind, decoder: PixelDecoder) -> Volume:
    """The image that stands for a study, as a worker chooses it."""
    content = catalogue.instances.headers_of(study_uid)
    paths = {header.sop_uid: blobs.intact(sha256) for header, sha256 in content}
    volumes = assemble(plan_study(header for header, _ in content), paths, decoder)
    found = next((volume for volume in volumes if volume.kind is kind), None)
    if found is None:
        raise Skipped(f"the study has no {kind}", reason_code=ReasonCode.NO_IMAGE)
    return found


@dataclass(frozen=True, kw_only=True)
class _ArchivedStudy:
    """A study of the archive for ``prepare``: its image is chosen as a worker chooses it."""

    files: tuple[Path, ...]
    reading: str = "archive"

    def volumes(self, kind: ImageKind, decoder: PixelDecoder) -> list[Volume]:
        headers = [(read_header(path), path) for path in self.files]
        paths = {header.sop_uid: path for header, path in headers}
        volumes = assemble(plan_study(header for header, _ in headers), paths, decoder)
        found = [volume for volume in volumes if volume.kind is kind]
        if not found:
            raise Skipped("no image of the wanted kind", reason_code=ReasonCode.NO_IMAGE)
        return found


def from_tokens(catalogue: Catalogue, bundle: Bundle, studies: Sequence[tuple[StudyToTrain, bool]]) -> Material:
    """The snapshot as tokens of the bundle's encoder."""
    by_uid = {study.study_uid: (study, apart) for study, apart in studies}
    kept = list(_tokens(catalogue, bundle, list(by_uid)))
    if not kept:
        raise BadInput("no study of the snapshot has image tokens: its images cannot be read")
    rows = [by_uid[one.study_uid] for one in kept]
    images = np.stack([one.tokens.values for one in kept])
    views = [View.LATERAL if one.tokens.lateral else View.FRONTAL for one in kept]
    left_out = {"no image could be read": len(studies) - len(kept)} if len(kept) < len(studies) else {}
    return _material(bundle.kind, images, views, rows, left_out, encoded=True)


def from_pixels(
    catalogue: Catalogue,
    blobs: BlobStore,
    bundle: Bundle,
    studies: Sequence[tuple[StudyToTrain, bool]],
    work: Path,
    progress: Progress,
) -> Material:
    """The snapshot as network inputs, prepared once into ``work``."""
    contents = []
    for study, _ in studies:
        hashes = [sha256 for _, sha256 in catalogue.instances.headers_of(study.study_uid)]
        contents.append(_ArchivedStudy(files=tuple(blobs.path(sha256) for sha256 in hashes)))
    prepared = prepare(
        contents, bundle.preprocessing, blobs.root, work, progress=lambda done: progress(done, len(contents))
    )
    if not len(prepared.images):
        raise BadInput("no image of the snapshot can be read")
    rows = [studies[number] for number in prepared.study]
    lateral = view_index(ImageKind.CXR, View.LATERAL)
    views = [View.LATERAL if view == lateral else View.FRONTAL for view in prepared.views]
    return _material(bundle.kind, prepared.images, views, rows, dict(prepared.left_out), encoded=False)


def _material(
    kind: ImageKind,
    images: F16,
    views: Sequence[View],
    rows: Sequence[tuple[StudyToTrain, bool]],
    left_out: dict[str, int],
    *,
    encoded: bool,
) -> Material:
    studies = [study for study, _ in rows]
    names = [patient_name(study) for study in studies]
    reports = tuple(study.body for study in studies)
    data = StudySet(
        kind=kind,
        images=images,
        views=np.array([view_index(kind, view) for view in views], np.int64),
        patients=patient_codes(names, images),
        reports=reports,
        said=mined(reports, kind),
        names=tuple(names),
        encoded=encoded,
    )
    groups = Groups(
        sex=tuple(study.patient_sex if study.patient_sex in ("F", "M") else None for study in studies),
        age=tuple(age_group(study.patient_age_years) for study in studies),
        scanner=tuple(study.scanner for study in studies),
    )
    apart = np.array([held_out for _, held_out in rows])
    # Two names of one patient, known by an identical image: where one is held out, both are.
    apart |= np.isin(data.patients, data.patients[apart])
    uids = tuple(study.study_uid for study in studies)
    return Material(data=data, groups=groups, held_out=apart, study_uids=uids, left_out=left_out)


def age_group(years: float | None) -> str | None:
    if years is None:
        return None
    return "under 40" if years < 40 else "40 to 64" if years < 65 else "65 and over"
