"""One synthetic study in memory, for training without going through DICOM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radir_pacs.types import F32, ImageKind

from .boxes import Box, frontal_boxes
from .canvas import SIZES, Size
from .course import develop, draw_patient
from .findings import PhantomFinding
from .house import FIRST, HOUSES
from .images import take_images
from .patient import Chest, Patient
from .wording import write_report


@dataclass(frozen=True, kw_only=True)
class PhantomStudy:
    """A patient on one day, as radiographs and CT at once.

    frontal, lateral: float32 [1, H, W] in [0, 1], bright is dense, patient's right at the frontal picture's left
    (the convention of ``radir_pacs.types.Volume``); ct: float32 [z, y, x] HU in Volume's axes. Images that are not
    wanted have no pixels. ``boxes``: region key -> (left, top, right, bottom), fractions of the frontal picture.
    """

    index: int
    visit: int
    patient: Patient
    findings: tuple[PhantomFinding, ...]
    frontal: F32
    lateral: F32
    radiograph_spacing_mm: tuple[float, float, float]
    ct: F32
    ct_spacing_mm: tuple[float, float, float]
    ct_origin_mm: tuple[float, float, float]
    radiograph_report: str
    ct_report: str
    boxes: dict[str, Box]


def sample(
    seed: int,
    index: int,
    *,
    size: Size = SIZES["small"],
    visit: int = 0,
    radiographs: bool = True,
    ct: bool = True,
    house: str = FIRST,
) -> PhantomStudy:
    """Study ``index`` of the hospital ``seed``: each index is another patient; ``visit`` 1, 2, … are later visits.

    The same numbers give the same study on every machine with the same NumPy version.
    """
    patient, findings = draw_patient(seed, index, HOUSES[house].mix)
    before: tuple[PhantomFinding, ...] | None = None
    for step in range(visit):
        before, findings = findings, develop(findings, 30, np.random.default_rng([seed, index, 3, step]))
    chest = Chest.of(patient, findings)
    rng = np.random.default_rng([seed, index, 4, visit])
    images = HOUSES[house].seen(take_images(chest, size, rng, radiographs=radiographs, ct=ct), rng)
    words = np.random.default_rng([seed, index, 5, visit])
    return PhantomStudy(
        index=index,
        visit=visit,
        patient=patient,
        findings=findings,
        frontal=images.frontal,
        lateral=images.lateral,
        radiograph_spacing_mm=images.radiograph_spacing_mm,
        ct=images.ct,
        ct_spacing_mm=images.ct_spacing_mm,
        ct_origin_mm=images.ct_origin_mm,
        radiograph_report=write_report(patient, findings, before, ImageKind.CXR, words, house=house).text,
        ct_report=write_report(patient, findings, before, ImageKind.CT, words, house=house).text,
        boxes=frontal_boxes(chest, size),
    )
