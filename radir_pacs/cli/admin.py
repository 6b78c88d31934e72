"""``radir complete`` and ``radir delete``: what an administrator does to one study."""

from __future__ import annotations

import argparse

from radir_pacs import config
from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import counted, out
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.storage import open_blobs
from radir_pacs.types import StudyState


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, run, text in (
        ("complete", complete, "declare a study complete: it is encoded without waiting for the quiet period"),
        ("delete", delete, "delete a study: answers leave it out at once, its files and vectors follow"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("study", help="Study Instance UID")
        config.add_flags(parser)
        parser.set_defaults(run=run, needs_settings=True)


def complete(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        done = catalogue.studies.complete_now(args.study)
        state = catalogue.studies.get(args.study).state
    if done:
        out.print("encoding follows")
    elif state in (StudyState.QUARANTINED, StudyState.SKIPPED):
        out.print(f"the study is {state}; encode it again with: radir problems retry {args.study}", soft_wrap=True)
        return 1
    else:
        out.print(f"nothing to do: the study is {state}")
    return 0


def delete(args: argparse.Namespace, settings: Settings) -> int:
    """The rows go at once, and the study with them from every answer; the relay clears files and index later."""
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        catalogue.audit.note(AuditEvent.DELETED, caller(), args.study)
        unused = catalogue.studies.delete(args.study)
        blobs = open_blobs(settings, catalogue.backups.installation())
    removed = sum([blobs.delete(sha256) for sha256 in unused])
    later = f"; {len(unused) - removed} too recent to remove now, gone within minutes" if removed < len(unused) else ""
    out.print(f"deleted; {counted(removed, 'file')} removed{later}")
    return 0
