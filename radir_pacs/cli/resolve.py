"""``radir resolve SC-12345-6789A``: the study behind an anonymous reference that was copied from a similar case."""

from __future__ import annotations

import argparse
import getpass
import os

from radir_pacs import config
from radir_pacs.access.references import resolve
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import NotFound


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "resolve", help="the study that an anonymous reference means; noted in logs/audit.log of the home folder"
    )
    parser.add_argument("reference", help="SC-12345-6789A, or the whole line that was copied")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def _who() -> str:
    """The user's name for the audit log, or the user id where it has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        found = [catalogue.studies.get(uid) for uid in resolve(args.reference, catalogue.studies, settings, by=_who())]
    if not found:
        raise NotFound("no study here has this reference; it may have been deleted")
    if args.json:
        print_json([{"study": study.study_uid, "accession_number": study.accession_number} for study in found])
        return 0
    for study in found:
        out.print(f"study {study.study_uid}", soft_wrap=True, markup=False, highlight=False)
        out.print(f"accession number {study.accession_number or 'none'}", soft_wrap=True, markup=False, highlight=False)
    return 0
