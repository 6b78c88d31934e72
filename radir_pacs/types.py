"""The shared types: frozen, keyword-only dataclasses, checked when made.

Words as in DICOM (study, series, instance). A *region* is a node of the anatomy hierarchy; an *encoding* holds one
unit vector per region for one study under one model; a *generation* is an immutable, verified build of a partition
(one region, one model).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from radir_pacs.image_notes import ImageNote
from radir_pacs.reasons import ReasonCode

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
PartitionKey = tuple[str, str]  # model id and region key


class ImageKind(StrEnum):
    """The kinds of image that have networks: chest radiograph (2D) and chest CT (3D)."""

    CXR = "CXR"
    CT = "CT"


RADIOGRAPH_MODALITIES = frozenset({"CR", "DX", "RG"})  # PS3.3 C.7.3.1.1.1


def modalities_of_kind(kind: ImageKind) -> frozenset[str]:
    """The values of Modality that images of this kind have."""
    return RADIOGRAPH_MODALITIES if kind is ImageKind.CXR else frozenset({"CT"})


def kind_of_modality(modality: str | None) -> ImageKind | None:
    """The kind of image that a Modality stands for; None for one that we do not encode."""
    return next((kind for kind in ImageKind if modality in modalities_of_kind(kind)), None)


def date_value(day: date) -> str:
    """A value of VR DA (PS3.5 6.2); strftime would give a year below 1000 fewer than four digits."""
    return day.isoformat().replace("-", "")


class View(StrEnum):
    FRONTAL = "FRONTAL"
    LATERAL = "LATERAL"


class StudyState(StrEnum):
    RECEIVING = "RECEIVING"
    STABLE = "STABLE"
    ENCODED = "ENCODED"
    INDEXED = "INDEXED"
    SKIPPED = "SKIPPED"
    QUARANTINED = "QUARANTINED"


class JobState(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class JobKind(StrEnum):
    ENCODE = "encode"  # key: study UID
    REENCODE = "reencode"  # key: model id / study UID; under a model beside the one that encodes the study's own job
    INDEX = "index"  # key: model id / region key
    REPORT = "report"  # key: SOP instance UID of an SR, or report/ID of a text in the catalogue
    PULL = "pull"  # key: study UID, to be fetched from the PACS
    SEND = "send"  # key: SOP instance UID of a report, to be sent to the return destination
    EVICT = "evict"  # key: 'files', the oldest files make room; 'retention', files go by a rule
    COMMITMENT = "commitment"  # key: id of a storage commitment, to be reported to its requestor


class Urgency(IntEnum):
    """Whose encode job comes first: the lower number."""

    URGENT = 0  # somebody waits for the study
    NEW = 1
    ARCHIVE = 2  # came before there was a model for it
    BESIDE = 3  # new, under a model that does not answer
    BACKGROUND = 4  # of the archive, under a model that may answer one day


class ModelState(StrEnum):
    """Where a model stands in its life."""

    REGISTERED = "REGISTERED"  # its bundle is here
    SHADOW = "SHADOW"  # it encodes beside the one that answers, and answers nobody
    SERVING = "SERVING"  # it answers; one for each kind of image
    RETIRED = "RETIRED"  # it answered, or never will; kept for a while, to go back to


class ModelChange(StrEnum):
    """What the history of models tells."""

    REGISTERED = "REGISTERED"
    SHADOWED = "SHADOWED"
    PROMOTED = "PROMOTED"
    ROLLED_BACK = "ROLLED_BACK"  # it answers again
    RETIRED = "RETIRED"
    PRUNED = "PRUNED"  # its encodings, index and bundle are gone


class HeaderNote(StrEnum):
    """What was odd about a file that was stored nevertheless."""

    META_DIFFERS = "META_DIFFERS"  # the file meta information names another instance; the data set counts
    NO_PREAMBLE = "NO_PREAMBLE"  # or no file meta information at all
    NO_TRANSFER_SYNTAX = "NO_TRANSFER_SYNTAX"  # none was named; it was read from the data set
    PIXELS_TRUNCATED = "PIXELS_TRUNCATED"  # fewer bytes of pixel data than rows, columns and frames need


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded concept (PS3.3 8.1): value, scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


LEFT = Code(value="7771000", scheme="SCT", meaning="Left")
RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")
BILATERAL = Code(value="51440002", scheme="SCT", meaning="Right and left")


@dataclass(frozen=True, kw_only=True)
class Region:
    """A node of the anatomy hierarchy.

    ``key`` is a slug used in URLs, files and the database ("right_lower_lobe"); ``name`` is what people read and what
    the text encoder is given ("right lower lobe"). ``parent`` is a key, None at the root ("chest").
    """

    key: str
    name: str
    parent: str | None
    code: Code
    laterality: Code | None = None
    synonyms: tuple[str, ...] = ()
    kinds: frozenset[ImageKind] = frozenset(ImageKind)
    trained: frozenset[ImageKind] = frozenset()

    def __post_init__(self) -> None:
        if not self.key or not self.key.replace("_", "").isalnum() or self.key != self.key.lower():
            raise ValueError(f"region key {self.key!r} is not a lower-case slug")


@dataclass(frozen=True, kw_only=True)
class InstanceHeader:
    """What one SOP instance says about itself, read without pixels. Text is decoded and free of control characters.

    ``attributes`` is the DICOM JSON model (PS3.18 F) of the header without bulk data, keys ascending.
    ``patient_key`` names one person across studies (issuer and id); empty when the id is missing. A header with several
    values of Patient ID has a key of each in ``patient_keys``; ``patient_id`` joins them with backslashes.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str | None = None
    patient_key: str = ""
    patient_keys: tuple[str, ...] = ()
    patient_id: str | None = None
    patient_name: str | None = None
    patient_sex: str | None = None
    patient_birth_date: date | None = None
    patient_age_years: float | None = None
    study_date: date | None = None
    study_time: str | None = None
    accession_number: str | None = None
    study_description: str | None = None
    referring_physician: str | None = None
    study_id: str | None = None
    series_number: int | None = None
    series_description: str | None = None
    body_part: str | None = None
    instance_number: int | None = None
    rows_px: int | None = None
    columns_px: int | None = None
    frames: int = 1
    notes: tuple[HeaderNote, ...] = ()
    source: str = ""  # calling AE title, or the route it came by; known for stored instances
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Pixels of one image or one series, ready for any encoder.

    voxels: float32 [z, y, x], C-contiguous. CT: Hounsfield units, z ascending from feet to head, y from front to back,
    x from the patient's right to the patient's left (LPS axes). CXR: z == 1, presentation values in [0, 1], bright is
    dense (MONOCHROME2 after all LUTs); the patient's right is at the picture's left for a frontal view.
    spacing_mm: (z, y, x). affine: 4x4, voxel index (x, y, z, 1) to patient LPS mm (identity scaled for CXR).
    sop_instance_uids: one per slice in z order (CXR: one).
    slice_images: `ImageRef` as text, one per slice in z order; empty for radiographs and for a series that was not
    acquired axially.
    """

    kind: ImageKind
    voxels: F32
    spacing_mm: tuple[float, float, float]
    affine: npt.NDArray[np.float64]
    study_uid: str
    series_uid: str
    sop_instance_uids: tuple[str, ...]
    slice_images: tuple[str, ...] = ()
    view: View | None = None
    warnings: tuple[ImageNote, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != np.float32:
            raise ValueError("voxels must be float32 [z, y, x]")
        if not np.isfinite(self.voxels).all():
            raise ValueError("voxels must be finite")
        if self.kind is ImageKind.CXR and self.voxels.shape[0] != 1:
            raise ValueError("a radiograph has one plane")
        if min(self.spacing_mm) <= 0:
            raise ValueError("spacing must be positive")
        if self.slice_images and len(self.slice_images) != len(self.voxels):
            raise ValueError("there must be one image per slice")


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """A picture: a SOP instance, and the number of its frame, from 1. As text ``uid`` or, of several, ``uid/frame``."""

    sop_uid: str
    frame: int = 1

    @classmethod
    def parse(cls, text: str) -> ImageRef:
        uid, _, frame = text.partition("/")
        return cls(sop_uid=uid, frame=int(frame or 1))

    def __str__(self) -> str:
        return self.sop_uid if self.frame == 1 else f"{self.sop_uid}/{self.frame}"


@dataclass(frozen=True, kw_only=True)
class SliceStack:
    """The slices of a CT series and where the chest lies among them.

    images: `ImageRef` as text, from feet to head. dome, apex: slice indices, with fractions, of the domes of the
    diaphragm and the apices of the lungs; either may lie outside the series. step_mm: from slice to slice.
    """

    images: tuple[str, ...]
    dome: float
    apex: float
    step_mm: float

    def __post_init__(self) -> None:
        if not self.images or not self.dome < self.apex or self.step_mm <= 0:
            raise ValueError("a stack has slices, and its lungs have a height")


class StepState(StrEnum):
    """Of a step of a retraining."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class ImageTokens:
    """What the encoder with hash ``encoder`` made of an image: float16 [tokens, width]. ``lateral``: the view of a
    radiograph, which cannot tell sides."""

    encoder: str
    kind: ImageKind
    lateral: bool
    values: F16


@dataclass(frozen=True, kw_only=True)
class KeptTokens:
    """Image tokens of a study as the catalogue keeps them, with what its encoding says of the image."""

    study_uid: str
    series_uid: str
    sop_uid: str
    revision: int
    tokens: ImageTokens
    slices: SliceStack | None = None
    warnings: tuple[ImageNote, ...] = ()

    @property
    def kind(self) -> ImageKind:
        return self.tokens.kind

    @property
    def is_lateral(self) -> bool:
        return self.tokens.lateral


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One unit vector per region for one study under one model, from one representative image or series.

    ``vectors`` is float32 [len(regions), dim]; row i belongs to ``regions[i]`` (region keys). The whole-image vector
    is that of the region "chest". ``sop_uid`` is a representative instance (middle slice for CT); ``slices`` tells
    which slices show a region, None for a radiograph and where it is not known.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    model_id: str
    regions: tuple[str, ...]
    vectors: F32
    slices: SliceStack | None = None
    warnings: tuple[ImageNote, ...] = ()
    tokens: ImageTokens | None = None  # where they are to be kept

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32 or len(self.vectors) != len(self.regions):
            raise ValueError("vectors must be float32 [regions, dim]")
        norms = np.linalg.norm(self.vectors, axis=1)
        if not np.all(np.abs(norms - 1) < 1e-3):  # also refuses NaN
            raise ValueError("every region vector must have unit length")


@dataclass(frozen=True, kw_only=True)
class CatalogueStudy:
    """A study as the catalogue knows it. Patient fields are for answers only, never for logs."""

    study_uid: str
    state: StudyState
    reason: str | None = None
    reason_code: ReasonCode | None = None
    modalities: tuple[str, ...] = ()
    study_date: date | None = None
    study_time: str | None = None
    accession_number: str | None = None
    study_description: str | None = None
    referring_physician: str | None = None
    study_id: str | None = None
    patient_id: str | None = None
    patient_name: str | None = None
    patient_sex: str | None = None
    patient_birth_date: date | None = None
    patient_age_years: float | None = None
    body_part: str | None = None
    series_count: int = 0
    instance_count: int = 0
    patient_key: str = ""  # issuer and id; empty where unknown
    sites: tuple[str, ...] = ()  # labels of all that sent to it
    withheld: int = 0  # radir_pacs.scopes.Withheld
    departments: tuple[str, ...] = ()  # Institutional Department Name (0008,1040) of its instances
    patient_keys: tuple[str, ...] = ()  # of all its instances, each as ``patient_key``


@dataclass(frozen=True, kw_only=True)
class Job:
    """A leased unit of work. ``token`` fences: only its holder may finish the job."""

    id: int
    kind: JobKind
    key: str
    attempt: int
    max_attempts: int
    token: int
    state: JobState = JobState.PENDING
    reason_code: ReasonCode | None = None  # of the attempt before, when it failed
    urgency: Urgency = Urgency.NEW

    @property
    def study_uid(self) -> str:
        """Of an encode or reencode job."""
        return self.key.rpartition("/")[2]

    @property
    def model_id(self) -> str | None:
        """Of a reencode job: the one model that encodes; None: those that answer."""
        return self.key.rpartition("/")[0] or None if self.kind is JobKind.REENCODE else None
