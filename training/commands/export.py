"""``radir export training DIR``: images and reports of the archive without their patients' identity."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.caller import caller
from radir_pacs.cli.labels import note_unknown
from radir_pacs.cli.output import counted, out, print_json, progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.dicom.rules import load_rules
from radir_pacs.scopes import Scope, Withheld
from radir_pacs.storage import open_blobs

_KEY_BYTES = 32


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "export",
        help="a de-identified training set of reported studies",
        description="Writes images (PS3.15 Table E.1-1) and reports of studies that are not withheld to a new folder"
        " that radir train reads. Its README says what cannot be promised. Each study is an event of the audit trail.",
    )
    parser.add_argument("what", choices=("training",), help="what is exported")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder, readable by its owner only")
    parser.add_argument("--site", action="append", default=[], metavar="LABEL", help="only this site's (repeat)")
    parser.add_argument("--modality", action="append", default=[], help="only studies of these modalities (repeat)")
    parser.add_argument("--since", type=config.day, metavar="YYYY-MM-DD", help="only studies from this day on")
    parser.add_argument("--until", type=config.day, metavar="YYYY-MM-DD", help="only studies up to this day")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when nothing was exported."""
    from ..exports.training_set import export  # reads the table of PS3.15, which no other command needs

    rules = load_rules(settings.rules_file)
    must_run(settings)
    scope = Scope(
        sites=frozenset(args.site),
        modalities=frozenset(args.modality),
        since=args.since,
        until=args.until,
        sees=Withheld.FROM_NOBODY,
    )
    with Catalogue.open(settings) as catalogue, progress(transient=True) as shown:
        task = shown.add_task("studies", total=None)
        done = export(
            catalogue,
            open_blobs(settings, catalogue.backups.installation()),
            args.folder,
            key=secrets.token_bytes(_KEY_BYTES),
            rules=rules,
            scope=scope,
            by=caller(),
            progress=lambda number: shown.update(task, completed=number),
        )
        if not done.studies:
            note_unknown(catalogue, settings, sites=scope.sites)
    if args.json:
        print_json({**done.as_json(), "out": str(args.folder) if done.studies else None})
    else:
        _show(done.as_json(), args.folder)
    return 0 if done.studies else 1


def _show(done: dict[str, object], folder: Path) -> None:
    what = ", ".join(counted(int(str(done[noun])), one, noun) for noun, one in _NOUNS.items())
    out.print(f"{what} in {folder}" if done["studies"] else "nothing fits; nothing was written", soft_wrap=True)
    for reason, count in dict(done["left_out"]).items():  # type: ignore[call-overload]
        out.print(f"left out: {count} ({reason})")
    if done["studies"]:
        out.print(f"read {folder / 'README.md'} before you give it away", soft_wrap=True)


_NOUNS = {"studies": "study", "patients": "patient", "images": "image"}
