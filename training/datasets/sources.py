"""Readers of report collections in their own layouts: MIMIC-CXR(-JPG), CT-RATE, any CSV table, our archive.

A source yields one ``Case`` per image. Images of one study share its report. The split is the collection's own where it
has one, else it depends on the patient, so that no patient is in two splits.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from radir_pacs.errors import BadInput
from radir_pacs.reports.tables import BadRow, read_reports
from radir_pacs.separators import BEGINNING, decoded, header_at, opened, separator
from radir_pacs.types import ImageKind

SPLITS = ("train", "val", "test")
_FRONTAL = {"PA", "AP"}
_MIMIC_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_VOLUME = re.compile(r"(?P<scan>(?P<patient>\w+?_\d+)_[a-z]+)_\d+\.nii(?:\.gz)?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """``path``: the image, relative to the collection (a study UID for our archive)."""

    path: str
    patient: str
    split: str
    text: str
    kind: ImageKind


class ReportArchive(Protocol):
    """What a data set needs from a catalogue: every study with a report."""

    def reported_studies(self) -> Iterable[tuple[str, str, str, ImageKind]]:
        """(study UID, a key of the patient, text of the latest report, kind) of each."""


def split_of(patient: str) -> str:
    """80 : 10 : 10 by the hash of the patient's key, so that it never changes."""
    share = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def mimic_cxr(root: Path) -> Iterator[Case]:
    """MIMIC-CXR and MIMIC-CXR-JPG in one folder or side by side below it.

    Reports: ``files/pNN/pSUBJECT/sSTUDY.txt``. Images and splits: ``mimic-cxr-2.0.0-split.csv(.gz)`` and, to keep
    frontal views only, ``…-metadata.csv(.gz)``. Without the split table a study is one case, split by patient.
    """
    reports = {path.stem: path for path in root.rglob("s*.txt") if path.parent.name.startswith("p")}
    if not reports:
        raise BadInput(f"there are no MIMIC-CXR reports (files/pNN/pNNN/sNNN.txt) below {root}")
    table = _find(root, "mimic-cxr-2.0.0-split.csv")
    if table is None:
        for study, path in sorted(reports.items()):
            patient = path.parent.name
            name = f"files/{path.parent.parent.name}/{patient}/{study}"
            yield Case(path=name, patient=patient, split=split_of(patient), text=_text(path), kind=ImageKind.CXR)
        return
    metadata = _find(root, "mimic-cxr-2.0.0-metadata.csv")
    views = {row["dicom_id"]: row["ViewPosition"] for row in _rows(metadata)} if metadata else {}
    for row in _rows(table):
        report = reports.get(f"s{row['study_id']}")
        if report is None or (views and views.get(row["dicom_id"]) not in _FRONTAL):
            continue
        patient = f"p{row['subject_id']}"
        yield Case(
            path=f"files/{patient[:3]}/{patient}/s{row['study_id']}/{row['dicom_id']}.jpg",
            patient=patient,
            split=_MIMIC_SPLITS.get(row["split"], "train"),
            text=_text(report),
            kind=ImageKind.CXR,
        )


def ct_rate(root: Path) -> Iterator[Case]:
    """CT-RATE: ``train_reports.csv`` and ``validation_reports.csv`` anywhere below ``root``.

    Its validation set is our test set; a tenth of the training patients becomes "val". Paths follow the collection:
    train/train_1/train_1_a/train_1_a_1.nii.gz.
    """
    found = False
    for name, own_split in (("train_reports.csv", None), ("validation_reports.csv", "test")):
        table = _find(root, name)
        if table is None:
            continue
        found = True
        for row in _rows(table):
            match = _VOLUME.match(row["VolumeName"])
            if match is None:
                raise BadInput(f"{name}: {row['VolumeName']!r} is not the name of a CT-RATE volume")
            patient = match["patient"]
            folder = "train" if own_split is None else "valid"
            yield Case(
                path=f"{folder}/{patient}/{match['scan']}/{row['VolumeName']}",
                patient=patient,
                split=own_split or ("val" if split_of(patient) == "val" else "train"),
                text=f"FINDINGS: {row['Findings_EN']}\n\nIMPRESSION: {row.get('Impressions_EN', '')}",
                kind=ImageKind.CT,
            )
    if not found:
        raise BadInput(f"there is no train_reports.csv or validation_reports.csv of CT-RATE below {root}")


def table(
    path: Path, *, id_column: str, text_columns: list[str], patient_column: str | None, kind: ImageKind
) -> Iterator[Case | BadRow]:
    """Any CSV table with a column of ids (used as image paths) and of texts; without a patient column each row counts
    as a patient."""
    patients = _patients(path, id_column, patient_column) if patient_column else {}
    for row in read_reports(path, id_column, text_columns):
        if isinstance(row, BadRow):
            yield row
        else:
            patient = patients.get(row.id, row.id)
            yield Case(path=row.id, patient=patient, split=split_of(patient), text=row.text, kind=kind)


def _patients(path: Path, id_column: str, patient_column: str) -> dict[str, str]:
    """The patient of each id. Raises BadInput where the table has no such column."""
    patients = {}
    for row in _rows(path, (id_column, patient_column)):
        if patient_column not in row or id_column not in row:
            raise BadInput(f"the CSV file has no column {patient_column if id_column in row else id_column!r}")
        patients[row[id_column]] = row[patient_column]
    return patients


def archive(studies: ReportArchive) -> Iterator[Case]:
    """The reported studies of our own catalogue."""
    for study_uid, patient, text, kind in studies.reported_studies():
        yield Case(path=study_uid, patient=patient, split=split_of(patient), text=text, kind=kind)


def _find(root: Path, name: str) -> Path | None:
    return next((path for ending in ("", ".gz") for path in sorted(root.rglob(name + ending))), None)


def _rows(path: Path, wanted: Collection[str] = ()) -> Iterator[dict[str, str]]:
    try:
        with opened(path) as file:
            beginning = file.read(BEGINNING)
            file.seek(0)
            for _ in range(header_at(beginning.splitlines())):
                file.readline()
            yield from csv.DictReader(file, delimiter=separator(beginning, wanted))
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise BadInput(f"{path.name} cannot be read: {type(error).__name__}") from error


def _text(path: Path) -> str:
    return decoded(path.read_bytes())
