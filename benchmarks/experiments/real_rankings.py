"""Rankings of real X-rays by region, for the pages that judge them: networks, pixels, and a network of photographs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from radir_pacs.encode import CONFIGS, Bundle
from radir_pacs.encode.efficientnet import Convolution, EfficientNetLite, InvertedBottleneck
from radir_pacs.encode.places import place
from radir_pacs.types import ImageKind
from radir_training.data.folder_set import folder_set
from radir_training.data.picture_table import find_picture_table, picture_studies
from radir_training.data.statements import Mask
from radir_training.data.studies import StudySet
from radir_training.evaluation.embeddings import encoded
from radir_training.evaluation.measures import F32, I64
from radir_training.learning.backbone import fold, published

CXR, SIDE, PIXELS = ImageKind.CXR, 256, 64
COHEN, NIH = "cxr_cohen", "cxr_nih_more"
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
Scores = Callable[[str], F32]  # region -> cosines [n, n], or [asking, n]
Vectors = Callable[[str], F32]  # region -> unit vectors [n, dim]
GRADE_RANGE = 3
RANDOM, ZONE_PIXELS, LAST_MAP = "random order", "zone pixels", "EfficientNet-lite2 untouched, last map"


def joined(*parts: StudySet) -> StudySet:
    """All rows; the parts have no patient in common."""
    people = [np.unique(part.patients, return_inverse=True)[1] for part in parts]
    first = np.cumsum([0, *(codes.max() + 1 for codes in people)])
    return StudySet(
        kind=parts[0].kind,
        images=np.concatenate([part.images for part in parts]),
        views=np.concatenate([part.views for part in parts]),
        patients=np.concatenate([codes + start for codes, start in zip(people, first, strict=False)]),
        reports=sum((part.reports for part in parts), ()),
        said=sum((part.said for part in parts), ()),
        names=sum((part.names for part in parts), ()) if all(part.names for part in parts) else (),
    )


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

    @classmethod
    def joined(cls, one: Images, other: Images) -> Images:
        """The rows of ``one``, then those of ``other``."""
        return cls(
            {side: joined(data, other.by_side[side]) for side, data in one.by_side.items()},
            one.files + other.files,
            one.rows + other.rows,
        )

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


def measured_by(images: Images) -> Mask:
    """Which images of cxr_nih_more the starter's backbone is measured by: those of patients of even number."""
    return np.array([int(row["patient_id"]) % 2 == 0 for row in images.rows])


def graded(images: Images, collection: str) -> tuple[I64, dict[str, I64]]:
    """Rows with grades, and the grades of each zone."""
    with GRADES.open(newline="") as file:
        known = {row["file"]: row for row in csv.DictReader(file) if row["collection"] == collection}
    rows = np.array([row for row, name in enumerate(images.files) if name in known], np.int64)
    return rows, {zone: np.array([int(known[images.files[row]][zone]) for row in rows], np.int64) for zone in LOBES}


def judging(images: Images, collection: str) -> tuple[Images, dict[str, I64]]:
    """The graded images by which a network is judged, and their grades: of cxr_nih_more, those of patients by whom the
    starter's backbone was not measured."""
    rows, grades = graded(images, collection)
    asked = images.subset(rows)
    if collection != NIH:
        return asked, grades
    kept = ~measured_by(asked)
    return asked.subset(np.flatnonzero(kept)), {zone: found[kept] for zone, found in grades.items()}


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
        self.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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


def in_box(maps: F32) -> Vectors:
    """Mean and spread of a feature map in the region's box, standardised."""

    def vectors(key: str) -> F32:
        rows, columns = maps.shape[2:]
        inside = place(key, (rows, columns)).reshape(rows, columns) > 0
        (top, bottom), (left, right) = (np.flatnonzero(inside.any(axis))[[0, -1]] for axis in (1, 0))
        cut = maps[:, :, top : bottom + 1, left : right + 1]
        found = np.concatenate([cut.mean((2, 3)), cut.std((2, 3))], axis=1)
        return unit((found - found.mean(0)) / (found.std(0) + 1e-6))

    return vectors


def of_pixels(images: F32, *, zone: bool) -> Vectors:
    """Standardised pixels of the region's place, or of the whole picture."""
    n, _, side, _ = images.shape
    small = images.reshape(n, PIXELS, side // PIXELS, PIXELS, side // PIXELS).mean((2, 4)).reshape(n, -1)

    def vectors(key: str) -> F32:
        found = small[:, place(key, (PIXELS, PIXELS)) > 0] if zone else small
        return unit((found - found.mean(0)) / (found.std(0) + 1e-6))

    return vectors


def of_bundle(bundle: Bundle, images: Images, *, own: bool = False, by_lobe: bool = False) -> Vectors:
    """``own``: without what a backbone adds. ``by_lobe``: for the lobe in each zone, also where it knows the zone."""
    bundle.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = encoded(bundle, images.by_side[bundle.preprocessing.shape[0]])
    keys = frozenset(region.key for region in bundle.regions)
    numbers = bundle.network.config.embedding_dim if own else None
    known = keys - LOBES.keys() if by_lobe else keys
    return lambda key: unit(found.of(key if key in known else LOBES.get(key, key))[:, :numbers])


def cosines(vectors: Vectors, asking: Vectors | None = None) -> Scores:
    """``asking``: of those who ask, where they are not all of ``vectors``."""
    return lambda key: np.asarray((asking or vectors)(key) @ vectors(key).T, np.float32)
