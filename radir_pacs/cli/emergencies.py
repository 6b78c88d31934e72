"""``radir emergencies list|end``: which patients were opened out of scope, by whom and why."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, EmergencyAccess
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import out, print_json, say
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.printable import printable


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "emergencies",
        help="patients that radiologists opened out of scope, and why",
        description="With the setting emergency_access a radiologist who signed in may open a patient for a while by"
        " giving a reason. What ended more than a month ago is in the audit trail only: radir audit --event"
        " EMERGENCY_STARTED.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    listed = actions.add_parser("list", help="those of the last month, the newest first")
    end = actions.add_parser("end", help="end one before its time")
    end.add_argument("number", type=int, metavar="NUMBER", help="as in the list")
    for action in (listed, end):
        action.add_argument("--json", action="store_true", help="for machines")
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        if args.action == "end":
            catalogue.emergencies.end(args.number, by=caller())
            say({"ended": args.number}, f"{args.number} has ended, within a second everywhere", as_json=args.json)
        else:
            _list(args, catalogue.emergencies.all())
    return 0


def _list(args: argparse.Namespace, rows: tuple[EmergencyAccess, ...]) -> None:
    if args.json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("number", "by", "state", "begun", "ends", "patient", "study", "reason", box=box.SIMPLE)
    for row in rows:
        times = (f"{at.astimezone():%Y-%m-%d %H:%M}" for at in (row.begun_at, row.ended_at or row.ends_at))
        told = (row.caller, "open" if row.is_open else "ended", *times, ", ".join(row.patient_keys), row.study_uid)
        table.add_row(str(row.number), *(Text(printable(cell)) for cell in (*told, row.reason)))
    out.print(table if rows else "nobody has opened a patient in an emergency")
