"""``radir reports FILE.csv``: takes in reports that come as a table; a worker mines each as it is committed."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, Received, ReportStatus, ReportVersion
from radir_pacs.cli.output import out, print_json, progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput
from radir_pacs.reports.markup import plain_text
from radir_pacs.reports.newest import only_adds
from radir_pacs.reports.tables import BadRow, TextRow, read_reports

SOURCE = "csv"
_SAID = (Received.NEW, Received.REPLACED, Received.SAME, Received.WAITING)  # a row is none of the others


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("reports", help="take in reports from a CSV file; they explain similar cases")
    parser.add_argument("file", type=Path, metavar="FILE.csv", help="one report per row, under a header")
    match = parser.add_mutually_exclusive_group(required=True)
    match.add_argument("--study", metavar="COLUMN", help="column of the Study Instance UID")
    match.add_argument("--accession", metavar="COLUMN", help="column of the accession number")
    parser.add_argument("--text", metavar="COLUMNS", required=True, help="text columns, findings,impression")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when a row was left out. Those without a study wait and join it when it comes.

    A later text for a study replaces the one that came as CSV before, one that is an addendum alone adds to it; what
    stands there already changes nothing.
    """
    columns = [column.strip() for column in args.text.split(",") if column.strip()]
    if args.file.is_dir():
        raise BadInput(f"{args.file} is a folder, not a CSV file")
    rows = read_reports(args.file, args.study or args.accession, columns)
    must_run(settings)
    received: Counter[Received] = Counter()
    left: list[BadRow] = []
    with Catalogue.open(settings) as catalogue, progress() as bar:
        task = bar.add_task("reports", total=None)
        for row in rows:
            outcome = row if isinstance(row, BadRow) else _receive(catalogue, row, by_accession=bool(args.accession))
            if isinstance(outcome, BadRow):
                left.append(outcome)
            else:
                received[outcome] += 1
            bar.advance(task)
    for bad in left:
        print(f"error: {bad.where}: {bad.reason}", file=sys.stderr)
    if args.json:
        counts = {outcome.lower(): received[outcome] for outcome in _SAID}
        print_json(counts | {"left_out": [{"row": bad.where, "reason": bad.reason} for bad in left]})
    else:
        new, replaced, same, waiting = (received[outcome] for outcome in _SAID)
        out.print(
            f"{new} new, {replaced} replaced, {same} there already, {waiting} waiting for their study,"
            f" {len(left)} left out"
        )
    return 1 if left else 0


def _receive(catalogue: Catalogue, row: TextRow, *, by_accession: bool) -> Received | BadRow:
    """One report into the catalogue, or why not: without its content, since the wrong column may hold a name."""
    if not row.text.strip():
        return BadRow(where=row.where, reason="no text")
    name = row.id.strip()
    try:
        if by_accession:
            if len(catalogue.studies.of_accession(name)) > 1:
                return BadRow(where=row.where, reason="several studies have this accession number")
        elif not is_valid_uid(name):
            return BadRow(where=row.where, reason="not a Study Instance UID")
        text = plain_text(row.text)
        return catalogue.report_versions.receive(
            ReportVersion(
                source=SOURCE,
                document="",
                status=ReportStatus.ADDENDUM if only_adds(text) else ReportStatus.FINAL,
                body=text,
                study_uid=None if by_accession else name,
                numbers=(name,) if by_accession else (),
            )
        )
    except BadInput as error:
        return BadRow(where=row.where, reason=str(error))
