"""A picture sheet: a row of views per patient, with the findings written beneath."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from radir_pacs.anatomy.windows import LUNG, SOFT_TISSUE
from radir_pacs.types import F32

from .canvas import Size
from .course import draw_patient
from .findings import CATALOGUE, LOBES, PhantomFinding
from .patient import Chest
from .places import lobe_place
from .sample import PhantomStudy, sample
from .wording import grade

TILE, GAP, CAPTION = 256, 6, 34


def draw_sheet(path: Path, seed: int, patients: int, size: Size) -> None:
    """One row per patient, at most one of them normal: frontal, lateral, axial slices in the lung and in the soft
    tissue window, a coronal slice. The first axial slice goes through a finding of the lung where there is one.
    """
    columns = 5
    sheet = Image.new("L", (columns * (TILE + GAP) + GAP, patients * (TILE + CAPTION + GAP) + GAP), 0)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for row, index in enumerate(_worth_seeing(seed, patients)):
        study = sample(seed, index, size=size)
        top = GAP + row * (TILE + CAPTION + GAP)
        for column, picture in enumerate(_views(study)):
            sheet.paste(_tile(picture), (GAP + column * (TILE + GAP), top))
        pen.text((GAP + 2, top + TILE + 4), _caption(study), fill=225, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _worth_seeing(seed: int, patients: int) -> list[int]:
    chosen: list[int] = []
    normal = index = 0
    while len(chosen) < patients:
        seen = [finding for finding in draw_patient(seed, index)[1] if not CATALOGUE[finding.concept].device]
        if seen or not normal:
            normal += not seen
            chosen.append(index)
        index += 1
    return chosen


def _height_mm(study: PhantomStudy) -> float:
    """Where to cut: through the first finding that sits in a lobe, else through the heart."""
    focal = [finding for finding in study.findings if finding.region in LOBES]
    return float(lobe_place(Chest.of(study.patient, study.findings), focal[0])[2]) if focal else -62.0


def _views(study: PhantomStudy) -> list[F32]:
    ct, (dz, dy, _) = study.ct, study.ct_spacing_mm
    axial = ct[round((_height_mm(study) - study.ct_origin_mm[2]) / dz)]
    upper = ct[round((12.0 - study.ct_origin_mm[2]) / dz)]
    middle = round((18.0 - study.ct_origin_mm[1]) / dy)
    coronal = np.repeat(ct[::-1, middle, :], max(1, round(dz / dy)), axis=0)
    return [
        study.frontal[0],
        study.lateral[0],
        windowed(axial, *LUNG),
        windowed(upper, *SOFT_TISSUE),
        windowed(coronal, *LUNG),
    ]


def windowed(hu: F32, centre: float, width: float) -> F32:
    """HU to [0, 1] through a linear window (PS3.3 C.11.2.1.2)."""
    shown: F32 = np.clip((hu - (centre - width / 2)) / width, 0, 1)
    return shown


def _tile(picture: F32) -> Image.Image:
    """Fit into a square tile, keeping the aspect ratio."""
    grey = Image.fromarray((picture * 255).astype(np.uint8))
    scale = TILE / max(grey.size)
    fitted = grey.resize((round(grey.width * scale), round(grey.height * scale)), Image.Resampling.LANCZOS)
    tile = Image.new("L", (TILE, TILE), 0)
    tile.paste(fitted, ((TILE - fitted.width) // 2, (TILE - fitted.height) // 2))
    return tile


def _caption(study: PhantomStudy) -> str:
    who = f"{study.patient.sex}, {study.patient.age_years} y: "
    return who + ("; ".join(_in_words(finding) for finding in study.findings) or "no abnormality")


def _in_words(finding: PhantomFinding) -> str:
    what = finding.concept.replace("_", " ")
    if CATALOGUE[finding.concept].device:
        return what
    size = f" {finding.size_mm:.0f} mm" if finding.size_mm else ""
    return f"{grade(finding)} {what}{size} ({finding.region.replace('_', ' ')})"
