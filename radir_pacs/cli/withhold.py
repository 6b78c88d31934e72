"""``radir withhold add|list|remove``: patients whose studies nobody finds, or no researcher."""

from __future__ import annotations

import argparse

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, WithheldPatient
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import out, print_json, say
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.printable import printable
from radir_pacs.scopes import Withheld

_FROM = {"research": Withheld.FROM_RESEARCH, "everybody": Withheld.FROM_ALL}
_WORDS = {degree: word for word, degree in _FROM.items()}
_CHARACTERS = 200


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "withhold",
        help="patients whose studies are left out of every answer, or of those to researchers",
        description="Applied inside the search: whoever asks for ten cases gets ten others. Administrators and the"
        " commands of this machine still see the studies.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="withhold a patient, also before the first study comes")
    add.add_argument("--from", dest="whom", choices=sorted(_FROM), default="everybody", help="default: %(default)s")
    add.add_argument("--reason", default="", help="why, without names; kept with the decision")
    listed = actions.add_parser("list", help="every withheld patient")
    remove = actions.add_parser("remove", help="withhold a patient no more")
    for action in (add, remove):
        action.add_argument("patient", help="Patient ID, or ISSUER\\ID where several patients have it")
    for action in (add, listed, remove):
        action.add_argument("--json", action="store_true", help="for machines")
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        match args.action:
            case "add":
                _check(args.patient, args.reason)
                catalogue.withheld.add(args.patient, _FROM[args.whom], by=caller(), reason=args.reason)
                say(
                    {"withheld_from": args.whom},
                    f"withheld from {args.whom}, within a second everywhere",
                    as_json=args.json,
                )
            case "remove":
                catalogue.withheld.remove(args.patient, by=caller())
                say({"withheld_from": None}, "the patient is withheld no more", as_json=args.json)
            case _:
                _list(args, catalogue.withheld.all())
    return 0


def _check(patient: str, reason: str) -> None:
    if not patient.strip() or not patient.isprintable() or len(patient) > _CHARACTERS:
        raise BadInput("PATIENT is a Patient ID, or an issuer, a backslash and a Patient ID")
    if not reason.isprintable() or len(reason) > _CHARACTERS:
        raise BadInput(f"--reason has at most {_CHARACTERS} printable characters")


def _list(args: argparse.Namespace, rows: tuple[WithheldPatient, ...]) -> None:
    if args.json:
        print_json(
            [
                {
                    "patient": row.patient_key,
                    "withheld_from": _WORDS[row.degree],
                    "reason": row.reason,
                    "by": row.by,
                    "at": row.at,
                    "studies": row.studies,
                }
                for row in rows
            ]
        )
        return
    table = Table("patient", "from", "studies", "since", "by", "reason", box=box.SIMPLE)
    for row in rows:
        cells = (printable(row.patient_key), _WORDS[row.degree], str(row.studies), f"{row.at:%Y-%m-%d}")
        table.add_row(*(Text(cell) for cell in (*cells, printable(row.by), printable(row.reason))))
    out.print(table if rows else "no patient is withheld")
