"""``radir resolve SC-12345-6789A``: the study behind an anonymous reference that was copied from a similar case."""

from __future__ import annotations

import argparse

from radir_pacs import config
from radir_pacs.access.references import resolve
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import NotFound


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "resolve", help="the study that an anonymous reference means; recorded in the audit trail"
    )
    parser.add_argument("reference", help="SC-12345-6789A, or the whole line that was copied")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        uids = resolve(args.reference, catalogue, settings, by=caller())
        found = [catalogue.studies.get(uid) for uid in uids]
    if not found:
        raise NotFound("no study here has this reference; it may have been deleted")
    if args.json:
        print_json([{"study": study.study_uid, "accession_number": study.accession_number} for study in found])
        return 0
    for study in found:
        out.print(f"study {study.study_uid}", soft_wrap=True, markup=False, highlight=False)
        out.print(f"accession number {study.accession_number or 'none'}", soft_wrap=True, markup=False, highlight=False)
    return 0
