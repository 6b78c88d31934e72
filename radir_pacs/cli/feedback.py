"""``radir feedback --json|--csv``: readers' judgements of similar cases, as data for training."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, fields

from rich.table import Table

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, FeedbackRow
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.printable import TableWriter


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("feedback", help="readers' thumbs up and down on similar cases")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every judgement, for machines")
    form.add_argument("--csv", action="store_true", help="every judgement as a table")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        rows, counts = catalogue.feedback.all(), catalogue.feedback.counts()
    if args.json:
        print_json([asdict(row) | {"at": row.at.isoformat()} for row in rows])
    elif args.csv:
        table = TableWriter(sys.stdout, [field.name for field in fields(FeedbackRow)])
        for row in rows:
            table.row(asdict(row) | {"at": row.at.isoformat()})
    else:
        shown = Table("region", "up", "down", "newest")
        for one in counts:
            shown.add_row(one.region, str(one.up), str(one.down), f"{one.newest:%Y-%m-%d %H:%M}")
        if counts:
            out.print(shown)
        up, down = sum(one.up for one in counts), sum(one.down for one in counts)
        out.print(f"{up} up, {down} down; --json or --csv shows them")
    return 0
