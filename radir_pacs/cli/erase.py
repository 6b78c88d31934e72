"""``radir erase PATIENT|STUDY``: nothing of it is left; ``--prove`` tells where was looked and what was found."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.access.erasure import SearchedPlace, erase, look
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import errors, out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput

_CHARACTERS = 200
_BEYOND = (
    "Out of reach: backups, data sets built into other folders, what was sent to other systems, what a model learned,"
    " and, with blob_store, copies in the blobs folders of other machines. Kept on purpose: the audit trail,"
    " and a decision to withhold the patient."
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "erase",
        help="erase a patient or a study: rows, files, vectors, reports, snapshots",
        description="Erases at once, and cannot be undone. " + _BEYOND,
    )
    parser.add_argument("subject", help="Patient ID (or ISSUER\\ID), under all merged ids; or a Study Instance UID")
    parser.add_argument("--prove", action="store_true", help="erase nothing: look everywhere and say what is found")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 while anything is found."""
    must_run(settings)
    if not args.subject.strip() or not args.subject.isprintable() or len(args.subject) > _CHARACTERS:
        raise BadInput("name a Patient ID, an issuer with a backslash and a Patient ID, or a Study Instance UID")
    with Catalogue.open(settings) as catalogue:
        if args.prove:
            places = look(args.subject, catalogue, settings)
        else:
            places = erase(args.subject, catalogue, settings, by=caller())
    found = sum(place.found or 0 for place in places)
    if args.json:
        print_json({"found": found, "places": [asdict(place) for place in places]})
    else:
        _show(places, found)
    return 1 if found else 0


def _show(places: tuple[SearchedPlace, ...], found: int) -> None:
    table = Table("looked in", "found", "", box=box.SIMPLE)
    for place in places:
        table.add_row(Text(place.name), "not here" if place.found is None else str(place.found), Text(place.when))
    out.print(table)
    elsewhere = any(place.found is None for place in places)
    nothing = "nothing is left here; other machines may have what is not here" if elsewhere else "nothing is left"
    out.print(nothing if not found else "something is left; look again with --prove", soft_wrap=True)
    errors.print(_BEYOND, soft_wrap=True)
