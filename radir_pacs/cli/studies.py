"""``radir studies``: find studies, and what happened to one; whoever is shown is recorded in the audit trail."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.access.finding import code_of, found
from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Catalogue, StudyEvent
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.printable import printable
from radir_pacs.types import CatalogueStudy, StudyState


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "studies",
        help="find studies, and see what happened to one: received, reported, encoded, failed",
        description="Without anything: the newest studies. Where one is found, what happened to it is shown too.",
    )
    parser.add_argument(
        "find",
        nargs="?",
        default="",
        metavar="TEXT",
        help="a Study Instance UID, accession number, patient ID, date or the reference of a similar case",
    )
    parser.add_argument("--state", type=str.upper, choices=[str(state) for state in StudyState], help="in this state")
    parser.add_argument("--reason", metavar="CODE", help="with --state: with this reason code")
    parser.add_argument("--limit", type=int, default=50, help="how many are listed (%(default)s)")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when nothing is found."""
    must_run(settings)
    if args.find and args.state:
        raise BadInput("a text or --state, not both")
    if args.reason and not args.state:
        raise BadInput("--reason belongs to --state")
    if args.limit < 1:
        raise BadInput("--limit is at least 1")
    code = code_of(args.reason) if args.reason else None
    by = caller()
    with Catalogue.open(settings) as catalogue:
        if args.state:
            studies = catalogue.studies.in_state(StudyState(args.state), args.limit, code)
        else:
            studies = found(args.find, catalogue, settings, by=by, most=args.limit)
        uids = [study.study_uid for study in studies]
        alone = len(uids) == 1 and bool(args.find)
        catalogue.audit.note_studies(AuditEvent.OPENED if alone else AuditEvent.LISTED, by, uids)
        events = catalogue.survey.timeline(uids[0]) if alone else ()
    if args.json:
        print_json({"studies": [_told(study) for study in studies], "events": [asdict(event) for event in events]})
    else:
        _show(studies, events)
    return 0 if studies else 1


def _told(study: CatalogueStudy) -> dict[str, Any]:
    return {
        "study": study.study_uid,
        "state": study.state,
        "reason_code": study.reason_code,
        "reason": study.reason,
        "accession_number": study.accession_number,
        "patient_id": study.patient_id,
        "date": study.study_date,
        "modalities": study.modalities,
        "description": study.study_description,
        "series": study.series_count,
        "instances": study.instance_count,
    }


def _show(studies: Sequence[CatalogueStudy], events: Sequence[StudyEvent]) -> None:
    if not studies:
        out.print("no study is found")
        return
    table = Table("state", "code", "date", "accession", "patient", "study", "why", box=box.SIMPLE_HEAD)
    for study in studies:
        told = (study.state, study.reason_code, study.study_date, study.accession_number, study.patient_id)
        table.add_row(*(_cell(value) for value in (*told, study.study_uid, study.reason)))
    out.print(table)
    if events:
        table = Table("at (UTC)", "what", "", "", "number", "code", "why", box=box.SIMPLE_HEAD)
        for event in events:
            shown = (f"{event.at:%Y-%m-%d %H:%M:%S}", event.what, event.subject, event.detail, event.count or "")
            table.add_row(*(_cell(value) for value in (*shown, event.reason_code, event.said)))
        out.print(table)


def _cell(value: object) -> Text:
    return Text(printable("" if value is None else str(value)))
