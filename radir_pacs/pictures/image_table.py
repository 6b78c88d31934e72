"""Tables that describe picture files: the meaning of the columns, and rows checked before anything is written."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from radir_pacs.dicom.header import parse_date
from radir_pacs.errors import BadInput
from radir_pacs.separators import decoded, header_at, separator
from radir_pacs.types import RADIOGRAPH_MODALITIES

FIELDS = (
    "image",  # file name, with or without its suffix; required
    "patient",  # required
    "study",  # groups pictures of one patient; without it each day, or else each picture, is a study
    "view",
    "sex",
    "age",  # years
    "report",
    "date",  # of the study
    "day",  # of the study, counted from any one day of the patient
    "modality",
    "spacing_mm",  # of the original picture
    "original_width_px",
)
_DAY_ZERO = date(2000, 1, 1)  # day 0 of tables that have only day numbers
_X_RAY = RADIOGRAPH_MODALITIES | {"", "X-RAY", "XRAY", "XR", "CXR"}
_VIEWS = {"PA": "PA", "AP": "AP", "L": "LL", "LL": "LL", "LAT": "LL", "LATERAL": "LL", "RL": "RL", "": "", "?": ""}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Column names by field. ``source`` names the collection: it goes into UIDs and the issuer of patient ids."""

    source: str
    columns: Mapping[str, str]


KNOWN_LAYOUTS = (
    Layout(
        source="cxr_cohen",
        columns={
            "image": "image",
            "patient": "patientid",
            "day": "offset",
            "view": "view",
            "sex": "sex",
            "age": "age",
            "report": "clinical_notes",
            "modality": "modality",
        },
    ),
    Layout(
        source="cxr_hannover",
        columns={
            "image": "image_id",
            "patient": "patient_id",
            "day": "admission_offset",
            "view": "projection",
            "sex": "sex",
            "age": "age",
            "modality": "modality",
        },
    ),
    Layout(
        source="cxr_nih",
        columns={
            "image": "Image Index",
            "patient": "Patient ID",
            "study": "Follow-up #",
            "view": "View Position",
            "sex": "Patient Gender",
            "age": "Patient Age",
            "report": "Finding Labels",
            "spacing_mm": "OriginalImagePixelSpacing[x",
            "original_width_px": "OriginalImage[Width",
        },
    ),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture as the table describes it. ``line`` is its line in the file."""

    line: int
    image: Path
    patient: str
    study: str
    view: str
    sex: str
    age_years: float | None
    report: str
    study_date: date | None
    spacing_mm: float | None
    original_width_px: int | None


class NotAnXRay(Exception):
    """The row describes another kind of image and is left out; that is not a fault of the table."""


def parse_columns(text: str) -> dict[str, str]:
    """``image=File,patient=Id`` as column names by field. Raises BadInput."""
    columns = {}
    for part in text.split(","):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or name not in FIELDS:
            raise BadInput(f"--columns: {part.strip()!r} is not FIELD=COLUMN with a FIELD of {', '.join(FIELDS)}")
        columns[name] = column
    return columns


def layout_for(header: list[str], columns: Mapping[str, str] | None, source: str) -> Layout:
    """The layout by explicit ``columns``, else a known one, else columns named as our fields. Raises BadInput."""
    if columns is None:
        for known in KNOWN_LAYOUTS:
            if set(known.columns.values()) <= set(header):
                return known
        columns = {name: name for name in FIELDS if name in header}
    missing = [column for column in columns.values() if column not in header]
    if missing:
        raise BadInput(f"the table has no column {missing[0]!r}")
    for needed in ("image", "patient"):
        if needed not in columns:
            raise BadInput(f"which column holds the {needed}? Use --columns {needed}=COLUMN")
    return Layout(source=source, columns=columns)


def open_table(table: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Column names, and the rows with their line numbers. Raises BadInput when it is not a table."""
    try:
        text = decoded(table.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read the table: {error.strerror}") from error
    lines = io.StringIO(text).readlines()
    first = header_at(lines)
    reader = csv.DictReader(lines[first:], restval="", delimiter=separator(text))
    try:
        header = [name for name in reader.fieldnames or [] if name]
    except csv.Error as error:
        raise BadInput(f"not a CSV table: {error}") from error
    if not header:
        raise BadInput("the table is empty")

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        try:
            for row in reader:
                yield first + reader.line_num, row
        except csv.Error as error:
            raise BadInput(f"line {first + reader.line_num}: not CSV: {error}") from error

    return header, rows()


def read_row(line: int, raw: Mapping[str, str], layout: Layout, folder: Path) -> Row:
    """One row checked. Raises BadInput with what is wrong, NotAnXRay for rows of other images."""

    def field(name: str) -> str:
        return (raw.get(layout.columns.get(name, ""), "") or "").strip()

    if field("modality").upper() not in _X_RAY:
        raise NotAnXRay(field("modality")[:16])
    patient = _identifier(field("patient"), "patient")
    image = find_image(folder, field("image"))
    day, written_date = field("day"), field("date")
    study_date = parse_date(written_date)
    if written_date and study_date is None:
        raise BadInput("the date is not a date")
    if re.fullmatch(r"-?\d{1,5}(\.0)?", day):
        study_date = study_date or _DAY_ZERO + timedelta(days=int(float(day)))
    else:
        day = ""
    view = field("view").upper().split(" ")[0]
    if view not in _VIEWS:
        raise BadInput("the view is none of PA, AP, L, LL, RL, LATERAL")
    return Row(
        line=line,
        image=image,
        patient=patient,
        study=_identifier(field("study") or day or image.stem, "study"),
        view=_VIEWS[view],
        sex=field("sex")[:1].upper() if field("sex")[:1].upper() in {"M", "F", "O"} else "",
        age_years=_number(field("age"), "age", 0, 130),
        report=_report(field("report")),
        study_date=study_date,
        spacing_mm=_number(field("spacing_mm"), "spacing", 0.01, 10),
        original_width_px=int(_number(field("original_width_px"), "original width", 1, 100_000) or 0) or None,
    )


def find_image(folder: Path, name: str) -> Path:
    """The picture ``name`` within ``folder``, whatever its suffix. Raises BadInput when it is missing or outside."""
    if not name:
        raise BadInput("no image is named")
    wanted = folder / name
    bare = wanted.with_suffix("") if wanted.suffix.lower() in {".jpg", ".jpeg", ".png"} else wanted
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have: too long, or with a NUL in it
        if not wanted.resolve().is_relative_to(folder.resolve()):
            raise BadInput("the image lies outside the folder")
        for path in (wanted, *(Path(f"{bare}{ending}") for ending in (".jpg", ".jpeg", ".png", ".JPG", ".PNG"))):
            if path.is_file():
                return path
    raise BadInput(f"image {name[:80]!r} not found")


def _identifier(text: str, what: str) -> str:
    if not text:
        raise BadInput(f"no {what} is named")
    if len(text) > 64 or "\\" in text or not text.isprintable():
        raise BadInput(f"the {what} is no identifier of at most 64 characters")
    return text


def _report(text: str) -> str:
    """Report text; a list of labels ("Infiltration|Nodule") becomes a sentence."""
    if "|" in text and " | " not in text:
        text = ", ".join(text.split("|"))
    return "".join(c for c in text if c.isprintable() or c in "\r\n\t")


def _number(text: str, what: str, low: float, high: float) -> float | None:
    if text in {"", "?", "NA", "nan"}:
        return None
    try:
        number = float(text)
    except ValueError:
        raise BadInput(f"the {what} is not a number") from None
    if not low <= number <= high:
        raise BadInput(f"the {what} is not between {low:g} and {high:g}")
    return number
