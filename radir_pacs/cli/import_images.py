"""``radir import-images``: chest X-rays in JPEG or PNG, with a table, made into DX instances and SR reports.

UIDs are derived from the ids in the table, so a second run writes the same objects again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from radir_pacs.cli.output import counted, progress
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.pictures.image_table import Layout, NotAnXRay, Row, layout_for, open_table, parse_columns, read_row
from radir_pacs.pictures.picture import read_picture
from radir_pacs.pictures.write_dx import MadeStudy, dx_instance, report_instance, save

_SHOWN = 20  # bad rows printed one by one


@dataclass(kw_only=True)
class Outcome:
    """The result of an import; ``refused`` and ``left_out`` hold one line per row."""

    studies: int = 0
    images: int = 0
    reports: int = 0
    refused: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to ``radir``."""
    parser = subparsers.add_parser(
        "import-images",
        help="turn JPEG or PNG chest X-rays and a table into DICOM",
        description="Turns JPEG or PNG chest X-rays with a CSV table into DX images and Basic Text SR reports. Bad "
        "rows are named and the rest goes on; the exit code is 1 when there were any.",
    )
    parser.add_argument("table", type=Path, metavar="TABLE.csv")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the DICOM files")
    parser.add_argument(
        "--columns",
        metavar="FIELD=COLUMN,…",
        help="which column says what; needed unless the table's layout is known or its columns have our field names",
    )
    parser.add_argument("--source", metavar="NAME", help="name of the collection, part of every UID (the table's name)")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """The command. 0 when every X-ray of the table was written, 1 when rows were refused."""
    if not args.images.is_dir():
        raise BadInput("--images is not a folder")
    columns = parse_columns(args.columns) if args.columns else None
    outcome = import_images(args.table, args.images, args.out, columns, args.source)
    for line in outcome.refused[:_SHOWN]:
        print(f"refused: {line}", file=sys.stderr)
    if len(outcome.refused) > _SHOWN:
        print(f"refused: {counted(len(outcome.refused) - _SHOWN, 'more row')}", file=sys.stderr)
    if args.json:
        print(json.dumps(vars(outcome)))
    else:
        print(
            f"{counted(outcome.images, 'image')} and {counted(outcome.reports, 'report')}"
            f" in {counted(outcome.studies, 'study', 'studies')};"
            f" {counted(len(outcome.refused), 'row')} refused, {len(outcome.left_out)} left out as not X-rays"
        )
    return 1 if outcome.refused else 0


def import_images(
    table: Path,
    folder: Path,
    out: Path,
    columns: dict[str, str] | None = None,
    source: str | None = None,
) -> Outcome:
    """Write every X-ray of ``table`` under ``out``. Raises BadInput when the table itself cannot be used."""
    header, raw_rows = open_table(table)
    layout = layout_for(header, columns, source or table.stem)
    if source:
        layout = Layout(source=source, columns=layout.columns)
    outcome = Outcome()
    studies: dict[tuple[str, str], list[Row]] = {}
    for line, raw in raw_rows:
        try:
            row = read_row(line, raw, layout, folder)
        except NotAnXRay as error:
            outcome.left_out.append(f"line {line}: not an X-ray ({error})")
        except BadInput as error:
            outcome.refused.append(f"line {line}: {error}")
        else:
            studies.setdefault((row.patient, row.study), []).append(row)
    with progress(transient=True) as shown:
        for rows in shown.track(studies.values(), description="writing DICOM"):
            _write_study(rows, layout.source, out, outcome)
    return outcome


def _write_study(rows: list[Row], source: str, out: Path, outcome: Outcome) -> None:
    first = rows[0]
    study = MadeStudy(
        source=source,
        patient_id=first.patient,
        study_key=first.study,
        sex=first.sex,
        age_years=first.age_years,
        study_date=first.study_date,
    )
    written: list[tuple[Row, Dataset]] = []
    for row in rows:
        try:
            picture = read_picture(row)
        except BadInput as error:
            outcome.refused.append(f"line {row.line}: {error}")
            continue
        ds = dx_instance(study, picture, len(written) + 1)
        save(ds, out)
        written.append((row, ds))
    if not written:
        return
    outcome.studies += 1
    outcome.images += len(written)
    texts = list(dict.fromkeys(row.report for row, _ in written if row.report))
    if texts:
        save(report_instance(study, "\n\n".join(texts), [ds for _, ds in written]), out)
        outcome.reports += 1
