"""``radir problems``: which studies were not encoded, which instances were refused, corrected or odd, and why."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.types import HeaderNote, StudyState

_NOTES = {
    HeaderNote.META_DIFFERS: "the file meta information names another instance",
    HeaderNote.NO_PREAMBLE: "no preamble",
    HeaderNote.NO_TRANSFER_SYNTAX: "no transfer syntax named",
    HeaderNote.PIXELS_TRUNCATED: "pixel data truncated",
}
_OUTCOME = {False: "counts", True: "kept aside"}
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
        corrections = catalogue.corrections.recent(args.limit)
        noted = catalogue.instances.noted(args.limit)
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
                "corrected": [
                    {
                        "instance": c.sop_uid,
                        "changed": c.changed,
                        "counts": not c.aside,
                        "source": c.source,
                        "at": c.at,
                    }
                    for c in corrections
                ],
                "odd": [{"instance": n.sop_uid, "notes": n.notes, "source": n.source, "at": n.at} for n in noted],
            }
        )
        return 0
    if not (studies or refusals or corrections or noted):
        out.print("none")
        return 0
    _table("studies", ("state", "study", "why"), [(s.state, s.study_uid, s.reason or "") for s in studies])
    rows = [(_at(r.at), r.source, r.sop_uid or "-", r.reason) for r in refusals]
    _table("refused", ("at (UTC)", "from", "instance", "why"), rows)
    changes = [(_at(c.at), c.source, c.sop_uid, _OUTCOME[c.aside], " ".join(c.changed)) for c in corrections]
    _table("came again with another header", ("at (UTC)", "from", "instance", "outcome", "changed"), changes)
    rows = [(_at(n.at), n.source, n.sop_uid, "; ".join(_NOTES[note] for note in n.notes)) for n in noted]
    _table("stored although odd", ("at (UTC)", "from", "instance", "what"), rows)
    return 0


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)
