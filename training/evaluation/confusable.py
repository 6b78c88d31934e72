"""An examination by confusable conditions: cases that differ only in which of two alike conditions they have.

Each synthetic patient is imaged twice, with the one and with the other condition, in the same place, of the same
severity, with the same noise. A query is one of these images; candidates are both images of every other patient.

- R@1: the first candidate has the query's condition.
- Pairwise accuracy: of the two images of another patient, the one with the query's condition scores higher; the mean
  over the other patients.

A random order scores .5 in both. The conditions are concepts of the lexicon (``phantoms.statements``), asked at one
region.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radir_pacs.anatomy.outlines import outline
from radir_pacs.encode import Bundle
from radir_pacs.encode.preprocess import preprocess
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind, View, Volume

from ..data.studies import StudySet
from ..phantoms import SIZES
from ..phantoms.course import draw_patient
from ..phantoms.findings import CATALOGUE, PhantomFinding, side_of
from ..phantoms.images import take_images
from ..phantoms.patient import Chest
from .embeddings import encoded
from .measures import F32, F64, I64
from .resample import Bootstrap

R_AT_1, PAIRWISE = MEASURES = ("R@1", "pairwise accuracy")
REGION, WHOLE, ZONE_PIXELS, PIXELS = RANKINGS = ("region", "whole chest", "pixels of the region", "pixels")
CHANCE = 0.5
LEAST_PATIENTS = 2
_STREAM = 7  # of random numbers, beside those of phantoms


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A finding of the phantoms and the region it is placed in."""

    concept: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two alike conditions, and the region where both are asked for."""

    name: str
    one: Condition
    other: Condition
    region: str

    @property
    def both(self) -> tuple[Condition, Condition]:
        return self.one, self.other


PAIRS = (
    Pair(
        name="effusion / collapse",
        one=Condition(concept="effusion", place="right_pleura"),
        other=Condition(concept="atelectasis", place="right_lower_lobe"),
        region="right_lower_zone",
    ),
    Pair(
        name="oedema / pneumonia",
        one=Condition(concept="oedema", place="lungs"),
        other=Condition(concept="consolidation", place="right_lower_lobe"),
        region="lungs",
    ),
    Pair(
        name="consolidation / collapse",
        one=Condition(concept="consolidation", place="right_lower_lobe"),
        other=Condition(concept="atelectasis", place="right_lower_lobe"),
        region="right_lower_lobe",
    ),
    Pair(
        name="mass / consolidation",
        one=Condition(concept="mass", place="right_upper_lobe"),
        other=Condition(concept="consolidation", place="right_upper_lobe"),
        region="right_upper_lobe",
    ),
)
CANNOT = {
    "nodule / vessel on end": "the phantoms' vessels are not findings, and none is drawn on end",
    "old fracture / fresh": "the phantoms' fractures have no age",
}


def drawn(pair: Pair, bundle: Bundle, *, seed: int, patients: int) -> StudySet:
    """Two images of each patient, the first with ``pair.one``; nobody has another finding."""
    rows = []
    for index in range(patients):
        patient, _ = draw_patient(seed, index)
        rng = np.random.default_rng([seed, index, _STREAM])
        severity, at = 1 + int(rng.integers(3)), tuple(float(value) for value in rng.random(3))
        for condition in pair.both:
            finding = _finding(condition, severity, at)
            noise = np.random.default_rng([seed, index, _STREAM, 1])
            images = take_images(Chest.of(patient, (finding,)), SIZES["small"], noise, ct=False)
            rows.append(preprocess(_volume(images.frontal, images.radiograph_spacing_mm, index), bundle.preprocessing))
    count = len(rows)
    return StudySet(
        kind=ImageKind.CXR,
        images=np.stack(rows).astype(np.float16),
        views=np.zeros(count, np.int64),
        patients=np.arange(count, dtype=np.int64) // 2,
        reports=("",) * count,
        said=({},) * count,
    )


def _volume(frontal: F32, spacing_mm: tuple[float, float, float], index: int) -> Volume:
    """The radiograph as the service would receive it."""
    return Volume(
        kind=ImageKind.CXR,
        voxels=frontal,
        spacing_mm=spacing_mm,
        affine=np.eye(4),
        study_uid=f"2.25.{index}",
        series_uid=f"2.25.{index}.0",
        sop_instance_uids=(f"2.25.{index}.0.1",),
        view=View.FRONTAL,
    )


def _finding(condition: Condition, severity: int, at: tuple[float, ...]) -> PhantomFinding:
    sizes = CATALOGUE[condition.concept].sizes_mm
    low, high = sizes[severity - 1] if sizes else (0.0, 0.0)
    u, v, w = at
    return PhantomFinding(
        concept=condition.concept,
        region=condition.place,
        side=side_of(condition.place),
        severity=severity,
        at=(u, v, w),
        size_mm=(low + high) / 2 if sizes else None,
    )


def judge(scores: F32, patients: I64) -> F64:
    """R@1 and pairwise accuracy of each query, [n, 2], of ``scores`` [n, n]; the two images of each of ``patients`` [n]
    stand in order, the first with the one condition, the second with the other."""
    count = len(patients)
    condition = np.arange(count) % 2
    table = np.where(patients[:, None] == patients[None], -np.inf, scores)
    same = (condition[:, None] == condition[None]).astype(float)
    best = table == table.max(axis=1, keepdims=True)
    first = (same * best).sum(axis=1) / best.sum(axis=1)  # ties count by their share
    by_person = scores.reshape(count, count // 2, 2)
    own, other = by_person[..., 0], by_person[..., 1]
    right = np.where(condition[:, None] == 0, own - other, other - own)
    won = np.where(right > 0, 1.0, np.where(right == 0, CHANCE, 0.0))
    others = patients[:, None] != np.arange(count // 2)[None]
    found: F64 = np.stack([first, (won * others).sum(axis=1) / others.sum(axis=1)], axis=1)
    return found


def examined(
    bundle: Bundle,
    *,
    seeds: Sequence[int],
    patients: int,
    pairs: Sequence[Pair] = PAIRS,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Figures by pair and ranking, over all seeds, with 95 % intervals: bootstrap over the patients that ask.

    ``progress`` gets the number of pairs and seeds done. Raises BadInput.
    """
    if bundle.kind is not ImageKind.CXR:
        raise BadInput("the confusable conditions are drawn as radiographs: name a bundle of those")
    if patients < LEAST_PATIENTS:
        raise BadInput(f"at least {LEAST_PATIENTS} patients are compared")
    known = {region.key for region in bundle.regions}
    found: dict[str, Any] = {}
    for number, pair in enumerate(pairs):
        values: dict[str, list[F64]] = {name: [] for name in RANKINGS}
        for at, seed in enumerate(seeds):
            data = drawn(pair, bundle, seed=seed, patients=patients)
            for name, scores in _scores(bundle, data, pair.region).items():
                values[name].append(judge(scores, data.patients))
            progress(number * len(seeds) + at + 1)
        who = np.arange(2 * patients * len(seeds), dtype=np.int64) // 2
        bootstrap, rows = Bootstrap(who, seeds[0]), np.arange(len(who), dtype=np.int64)
        figures: dict[str, Any] = {"asked_at": pair.region, "knows": pair.region in known, "queries": len(who)}
        for name, parts in values.items():
            resampled = bootstrap.resampled(np.concatenate(parts), rows)
            low, high = resampled.interval()
            figures[name] = {
                measure: {
                    "value": round(float(resampled.mean[i]), 4),
                    "interval_95": [round(float(low[i]), 4), round(float(high[i]), 4)],
                    "by_seed": [round(float(part[:, i].mean()), 4) for part in parts],
                }
                for i, measure in enumerate(MEASURES)
            }
        found[pair.name] = figures
    return {"model": bundle.model_id, "seeds": list(seeds), "patients": patients, "chance": CHANCE, "pairs": found,
            "cannot": CANNOT}  # fmt: skip


def _scores(bundle: Bundle, data: StudySet, region: str) -> Mapping[str, F32]:
    vectors = encoded(bundle, data, keys=[region])
    pictures = data.images[:, 0].astype(np.float32)
    corners = np.array(outline(region))
    height, width = pictures.shape[1:]
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    zone = pictures[:, int(top * height) : max(int(bottom * height), int(top * height) + 1)]
    zone = zone[:, :, int(left * width) : max(int(right * width), int(left * width) + 1)]
    own = vectors.of(region)
    return {
        REGION: own @ own.T,
        WHOLE: vectors.image @ vectors.image.T,
        ZONE_PIXELS: _correlation(zone),
        PIXELS: _correlation(pictures),
    }


def _correlation(pictures: F32) -> F32:
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    alike: F32 = flat @ flat.T
    return alike


def table(found: Mapping[str, Any]) -> list[str]:
    """Lines of a Markdown table. A figure is bold where it is above chance with its whole interval."""
    lines = [
        f"| conditions (asked at) | measure | random | {' | '.join(RANKINGS)} |",
        "|---" * (3 + len(RANKINGS)) + "|",
    ]
    for name, figures in found["pairs"].items():
        for measure in MEASURES:
            cells = " | ".join(_cell(figures[ranking][measure]) for ranking in RANKINGS)
            where = figures["asked_at"].replace("_", " ")
            lines.append(f"| {name} ({where}) | {measure} | {found['chance']:.2f} | {cells} |")
    return lines


def _cell(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval_95"]
    value = f"{figure['value']:.3f}"
    return f"{f'**{value}**' if low > CHANCE else value} [{low:.3f}, {high:.3f}]"
