"""``radir status``: each process, the queue, studies by state, the oldest job's age."""

from __future__ import annotations

import argparse
from typing import Any

from rich.table import Table

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import out, print_json
from radir_pacs.cli.supervisor import read_state
from radir_pacs.config import Settings


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("status", help="processes, queue, studies by state")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 0 when everything is up, 1 when a process is down or the stack does not run."""
    found = gather(settings)
    if args.json:
        print_json(found)
    else:
        _show(found)
    return 0 if found["running"] and all(p["state"] == "UP" for p in found["processes"]) else 1


def gather(settings: Settings) -> dict[str, Any]:
    """What is known of the installation in ``settings.home``; the database is asked only where it may be up."""
    supervisor = read_state(settings)
    if supervisor is None and not settings.database_url:
        return {"running": False, "home": str(settings.home), "processes": []}
    with Catalogue.open(settings) as catalogue:
        overview = catalogue.overview()
    children = {p["name"]: p for p in (supervisor or {}).get("processes", [])}
    seen = {p["name"]: p for p in overview.pop("processes")}
    processes = [
        {"state": "DOWN", **seen.get(name, {}), "name": name, "restarts": children.get(name, {}).get("restarts")}
        for name in sorted(seen.keys() | children.keys())
    ]
    return {"running": supervisor is not None, "home": str(settings.home), "processes": processes, **overview}


def _show(found: dict[str, Any]) -> None:
    if not found["running"]:
        out.print(f"radir does not run in {found['home']}; start it by: radir up")
        return
    table = Table(box=None, header_style="bold")
    for column in ("process", "state", "pid", "restarts", "detail"):
        table.add_column(column)
    for p in found["processes"]:
        table.add_row(
            p["name"], p["state"], str(p.get("pid") or "-"), str(p.get("restarts") or 0), str(p.get("detail") or "")
        )
    out.print(table)
    out.print()
    studies = ", ".join(f"{state} {count}" for state, count in found["studies"].items()) or "none"
    out.print(f"studies     {studies}")
    jobs = ", ".join(f"{state} {count}" for state, count in found["jobs"].items()) or "none"
    age = found["oldest_job_age_s"]
    out.print(f"jobs        {jobs}" + (f"; the oldest open one is {age:.0f} s old" if age is not None else ""))
