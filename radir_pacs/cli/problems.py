"""``radir problems``: which studies were not encoded, which instances were refused, and why."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.types import StudyState

_STATES = (StudyState.QUARANTINED, StudyState.SKIPPED)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "problems", help="studies that were not encoded and instances that were refused, and why"
    )
    parser.add_argument("--limit", type=int, default=50, help="how many of each (default 50)")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        studies = [study for state in _STATES for study in catalogue.studies.in_state(state, args.limit)]
        refusals = catalogue.refusals.recent(args.limit)
    if args.json:
        print_json(
            {
                "studies": [{"study": s.study_uid, "state": s.state, "reason": s.reason} for s in studies],
                "refused": [
                    {
                        "instance": r.sop_uid,
                        "reason": r.reason,
                        "status": r.dimse_status,
                        "source": r.source,
                        "at": r.at,
                    }
                    for r in refusals
                ],
            }
        )
        return 0
    if not studies and not refusals:
        out.print("none")
        return 0
    _table("studies", ("state", "study", "why"), [(s.state, s.study_uid, s.reason or "") for s in studies])
    rows = [(f"{r.at:%Y-%m-%d %H:%M:%S}", r.source, r.sop_uid or "-", r.reason) for r in refusals]
    _table("refused", ("at (UTC)", "from", "instance", "why"), rows)
    return 0


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)
