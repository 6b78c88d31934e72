"""PNG or JPEG radiographs with a table that describes them, as research collections have them.

Columns: ``path`` (or ``image``) and ``patient``; and optionally ``report``, ``labels`` ("Nodule|Effusion"),
``view``, ``study``, ``modality`` (rows that are no X-ray are left out). The public collections that ``radir
import-images`` knows are read by their own column names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.views import view_of_position
from radir_pacs.errors import BadInput, RadirError
from radir_pacs.pictures.image_table import KNOWN_LAYOUTS, Layout, NotAnXRay, Row, open_table, read_row
from radir_pacs.pictures.picture import read_picture
from radir_pacs.reports import Miner
from radir_pacs.types import F32, ImageKind, Volume

from .found import Found, FoundStudy, plain
from .labels import label_list, said_by

_NAMES = {
    "image": ("image", "path", "file"),
    "patient": ("patient", "patient_id"),
    "study": ("study", "study_id"),
    "view": ("view",),
    "report": ("report", "text"),
    "modality": ("modality",),
}
_LABELS = ("labels", "Labels", "Finding Labels")
LOOKED_FOR = "a CSV table with the columns path and patient beside PNG or JPEG pictures"


@dataclass(frozen=True, kw_only=True)
class PictureContent:
    """The pictures of one study."""

    rows: tuple[Row, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(row.image for row in self.rows)

    @property
    def reading(self) -> str:
        return "pictures " + " ".join(row.view or "?" for row in self.rows)

    def volumes(self, kind: ImageKind, decoder: PixelDecoder) -> list[Volume]:
        """Those that can be read; raises the first one's BadInput where none can."""
        volumes: list[Volume] = []
        failures: list[RadirError] = []
        for row in self.rows:
            try:
                volumes.append(picture_volume(row))
            except RadirError as error:
                failures.append(error)
        if not volumes:
            raise failures[0]
        return volumes


def picture_volume(row: Row) -> Volume:
    """The volume that ``radir import-images`` and the service would make from this row. Raises BadInput."""
    picture = read_picture(row)
    shown: F32 = (picture.pixels / np.float32(np.iinfo(picture.pixels.dtype).max)).astype(np.float32)
    if picture.view == "RL":  # its rows run anteriorly, those of a left lateral posteriorly
        shown = shown[:, ::-1]
    return Volume(
        kind=ImageKind.CXR,
        voxels=np.ascontiguousarray(shown[None]),
        spacing_mm=(1.0, picture.spacing_mm, picture.spacing_mm),
        affine=np.diag([picture.spacing_mm, picture.spacing_mm, 1.0, 1.0]),
        study_uid="",
        series_uid="",
        sop_instance_uids=("",),
        view=view_of_position(picture.view),
    )


def find_picture_table(folder: Path) -> Path | None:
    """The first table in ``folder`` that names pictures and their patients."""
    for path in sorted(folder.glob("*.csv")):
        try:
            header, _ = open_table(path)
        except BadInput:
            continue
        if {"image", "patient"} <= _layout(header, path.stem).columns.keys():
            return path
    return None


def picture_studies(table: Path, kind: ImageKind) -> Found:
    """Studies of the table in its order; those of one patient and study share reports and labels."""
    if kind is not ImageKind.CXR:
        raise BadInput(f"{table.name} lists pictures, which are X-rays: a CT is read from DICOM files")
    header, raw_rows = open_table(table)
    layout = _layout(header, table.stem)
    labels_column = next((name for name in _LABELS if name in header), None)
    roots = [root for root in (table.parent, table.parent / "images") if root.is_dir()]
    left_out: Counter[str] = Counter()
    rows: dict[tuple[str, str], list[Row]] = {}
    labels: dict[tuple[str, str], list[str]] = {}
    for line, raw in raw_rows:
        try:
            row = _row(line, raw, layout, roots)
        except NotAnXRay:
            left_out["no X-ray"] += 1
            continue
        except BadInput as error:
            left_out[plain(error)] += 1
            continue
        key = row.patient, row.study
        rows.setdefault(key, []).append(row)
        if labels_column:
            labels.setdefault(key, []).extend(label_list(raw.get(labels_column) or ""))
    miner = Miner()
    studies = [
        FoundStudy(
            study=f"{patient}\\{study}",
            patient=patient,
            content=PictureContent(rows=tuple(members)),
            report="\n\n".join(dict.fromkeys(row.report for row in members if row.report)),
            said=said_by(labels.get((patient, study), ()), kind, miner),
        )
        for (patient, study), members in rows.items()
    ]
    return Found(studies=studies, left_out=left_out, looked_for=LOOKED_FOR)


def _row(line: int, raw: Mapping[str, str], layout: Layout, roots: Sequence[Path]) -> Row:
    """Paths are relative to the table, or to ``images`` beside it."""
    for root in roots[1:]:
        try:
            return read_row(line, raw, layout, root)
        except BadInput:
            continue
    return read_row(line, raw, layout, roots[0])


def _layout(header: Sequence[str], source: str) -> Layout:
    columns = next(
        (known.columns for known in KNOWN_LAYOUTS if set(known.columns.values()) <= set(header)),
        {field: name for field, names in _NAMES.items() for name in reversed(names) if name in header},
    )
    kept = {field: name for field, name in columns.items() if name not in _LABELS}  # labels are not a report
    return Layout(source=source, columns=kept)
