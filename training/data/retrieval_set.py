"""The MIMIC-IR / CTRATE-IR layout on disk: a list of images and a relevance matrix per region, and for whole reports.

    <split>_entity/<region name>.csv       one row per image whose report speaks of the region; column "File Path"
    <split>_ratescore/<region name>.npy    [n, n], rows and columns in the order of that list
    <split>_caption.csv, <split>.jsonl     all images and their whole text; <split>_ratescore.npy the matrix
    <split>_findings.jsonl                 ours: what was mined, so that a pair can be explained

We write uint8, round(100 s), symmetric. Others write floats of either direction; ``read_table`` converts them.
Regions with too many images for a matrix get ``<region name>.top.npz`` instead: the top of each row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radir_pacs import anatomy, durable
from radir_pacs.errors import BadInput, UnknownRegion
from radir_pacs.reports import Finding, findings_from_json

U8 = npt.NDArray[np.uint8]
PATH_COLUMN = "File Path"


@dataclass(frozen=True, kw_only=True)
class RetrievalSet:
    """One split of a data set in this layout, ours or an official one."""

    folder: Path
    split: str

    def __post_init__(self) -> None:
        if (self.folder / f"{self.split}_entity").is_dir() or (self.folder / f"{self.split}_caption.csv").is_file():
            return
        there = sorted(path.name.removesuffix("_caption.csv") for path in self.folder.glob("*_caption.csv"))
        if there:
            raise BadInput(f"{self.folder} has no split {self.split!r}; it has {', '.join(there)}")
        raise BadInput(f"{self.folder} has no {self.split}_entity: no data set in the MIMIC-IR layout")

    def names(self) -> tuple[str, ...]:
        """Names of the regions that have a list, as in the file names."""
        return tuple(sorted(path.stem for path in (self.folder / f"{self.split}_entity").glob("*.csv")))

    def file_name(self, region: str) -> str:
        """The name under which a region (key or any wording of it) is filed. Raises UnknownRegion."""
        names = self.names()
        if region in names:
            return region
        wanted = anatomy.look_up(region)
        for name in names:
            try:
                if anatomy.look_up(name).key == wanted.key:
                    return name
            except UnknownRegion:  # an official set has regions that we do not have
                continue
        if not names:
            raise BadInput(
                f"no region of {self.split!r} had enough images for a list of its own (build: --least-images)"
            )
        raise UnknownRegion(region, names[:3])

    def paths(self, region: str | None = None) -> tuple[str, ...]:
        """Image paths in row order; without a region, those of the whole reports."""
        file = (
            self.folder / f"{self.split}_caption.csv"
            if region is None
            else self.folder / f"{self.split}_entity" / f"{self.file_name(region)}.csv"
        )
        return tuple(row[PATH_COLUMN] for row in _rows(file))

    def captions(self) -> dict[str, str]:
        """Whole texts by image path, in row order."""
        return {row[PATH_COLUMN]: row.get("Caption") or "" for row in _rows(self.folder / f"{self.split}_caption.csv")}

    def table(self, region: str | None = None) -> U8:
        """Relevance in hundredths, [n, n]; a memory map where nothing had to be converted. Raises BadInput."""
        path = (
            self.folder / f"{self.split}_ratescore.npy"
            if region is None
            else self.folder / f"{self.split}_ratescore" / f"{self.file_name(region)}.npy"
        )
        if not path.is_file():
            raise BadInput(f"there is no matrix {path.name}; larger regions have .top.npz lists")
        table = read_table(path)
        rows = len(self.paths(region))
        if table.shape != (rows, rows):
            raise BadInput(f"{path.name} is {table.shape[0]} x {table.shape[1]} and its list has {rows} rows")
        return table

    def findings(self) -> dict[str, tuple[Finding, ...]]:
        """Mined findings by image path; empty for a set that has none."""
        path = self.folder / f"{self.split}_findings.jsonl"
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8") as file:
            lines = (json.loads(line) for line in file)
            return {line[PATH_COLUMN]: findings_from_json(line["findings"]) for line in lines}


def read_table(path: Path) -> U8:
    """A relevance matrix in hundredths: max(s_ij, s_ji), clipped to [0, 1], rounded. Raises BadInput."""
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path.name} is no matrix: {type(error).__name__}") from error
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise BadInput(f"{path.name} is not square")
    if table.dtype == np.uint8:
        return np.asanyarray(table)
    if not np.issubdtype(table.dtype, np.floating):
        raise BadInput(f"{path.name} holds {table.dtype}, neither floats nor uint8")
    values = np.asarray(table, np.float32)
    if not np.isfinite(values).all():
        raise BadInput(f"{path.name} holds values that are not numbers")
    return np.asarray(np.rint(100 * np.clip(np.maximum(values, values.T), 0, 1)), np.uint8)


def write_list(path: Path, rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Write a CSV list with its header, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines, atomically."""
    with durable.replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            print(json.dumps(row), file=file)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise BadInput(f"there is no {path.name} in this data set")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if PATH_COLUMN not in (rows.fieldnames or ()):
            raise BadInput(f"{path.name} has no column {PATH_COLUMN!r}")
        yield from rows
