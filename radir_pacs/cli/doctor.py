"""``radir doctor``: is everything that this installation needs there, and what to do where it is not."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from radir_pacs import config
from radir_pacs.cli.diagnosis import CHECKS, CheckResult, Level
from radir_pacs.cli.output import counted, out, print_json, progress
from radir_pacs.config import Settings
from radir_pacs.printable import printable

_SHOWN = {Level.OK: "ok", Level.WARNING: "WARNING", Level.ERROR: "ERROR"}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="whether everything is in order: codecs, device, database, broker, disk, ports, clock, peers",
        description="Looks at this machine and at what it works with, and says what to do. Nothing is started or"
        " changed. Exit status: 0 without an error, 1 with one.",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    found = list(_examine(settings))
    levels = Counter(finding.level for finding in found)
    if args.json:
        print_json({"findings": [asdict(finding) for finding in found], "errors": levels[Level.ERROR]})
    else:
        for finding in found:
            line = f"{_SHOWN[finding.level]:<8} {finding.code:<20} {printable(finding.what)}"
            out.print(line, markup=False, soft_wrap=True)
            if finding.advice:
                out.print(f"{'':<29} {printable(finding.advice)}", markup=False, soft_wrap=True)
        out.print(f"{counted(levels[Level.ERROR], 'error')}, {counted(levels[Level.WARNING], 'warning')}")
    return 1 if levels[Level.ERROR] else 0


def _examine(settings: Settings) -> Iterator[CheckResult]:
    with progress(transient=True) as shown:
        task = shown.add_task("looking", total=len(CHECKS))
        for check in CHECKS:
            yield from check(settings)
            shown.advance(task)
