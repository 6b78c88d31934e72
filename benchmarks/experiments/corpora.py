"""The labelled report collections on which the miner is measured, and their fixed halves.

Open-i (reports, human MeSH codes, 14 and 95 labels) and CT-RATE's sample (reports, 18 labels) are in their own
folders, ``reports_iu`` and ``reports_ct``; none of them is shipped. A report belongs to the tuning half or to the
reporting half by the hash of its text, so equal texts are never in both halves.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from radir_pacs.types import ImageKind


class Half(IntEnum):
    TUNING = 0
    REPORTING = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledReport:
    """``labels``: 0 or 1 by label set and label. ``codes``: MeSH paths such as "Opacity/lung/base/left"."""

    id: str
    text: str
    kind: ImageKind
    half: Half
    labels: dict[str, dict[str, int]]
    codes: tuple[str, ...] = ()


def half_of(text: str) -> Half:
    """The half a text belongs to, whatever its case and spacing."""
    return Half(hashlib.sha256(" ".join(text.lower().split()).encode()).digest()[0] & 1)


def read_open_i(folder: Path) -> Iterator[LabelledReport]:
    """The Open-i reports of ``folder``; labels where its two tables have them."""
    fourteen = {row["filename"]: _labels(row, "filename") for row in _rows(folder / "gold14.csv")}
    ninety_five = {row["uid"]: _labels(row, "uid") for row in _rows(folder / "finding_labels95.csv")}
    for row in _rows(folder / "reports.csv"):
        labels = {}
        if row["uid"] in fourteen:
            labels["gold14"] = fourteen[row["uid"]]
        if row["uid"] in ninety_five:
            labels["findings95"] = ninety_five[row["uid"]]
        yield LabelledReport(
            id=row["uid"],
            text=f"FINDINGS: {row['findings']}\n\nIMPRESSION: {row['impression']}",
            kind=ImageKind.CXR,
            half=half_of(f"{row['findings']} {row['impression']}"),
            labels=labels,
            codes=tuple(code.strip() for code in row["mesh_major"].split(";") if code.strip()),
        )


def read_ct_rate_sample(folder: Path) -> Iterator[LabelledReport]:
    """The chest CT reports of ``folder`` with their 18 labels."""
    for row in _rows(folder / "reports.csv"):
        yield LabelledReport(
            id=row["AccessionNo"],
            text=row["report_text"],
            kind=ImageKind.CT,
            half=half_of(row["report_text"]),
            labels={"ct18": _labels({k: v for k, v in row.items() if k != "report_text"}, "AccessionNo")},
        )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _labels(row: dict[str, str], id_column: str) -> dict[str, int]:
    return {label: int(float(value or 0)) for label, value in row.items() if label != id_column}
