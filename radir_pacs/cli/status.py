"""``radir status``: each process, the queue, studies by state, the oldest job's age."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from radir_pacs import config
from radir_pacs.catalogue import SILENT_S, Catalogue, ProcessRow
from radir_pacs.cli.output import counted, out, print_json
from radir_pacs.cli.state import read_state
from radir_pacs.config import Settings
from radir_pacs.index.engine import LOCAL
from radir_pacs.storage.room import disk_of
from radir_pacs.types import ImageKind

DOWN = "DOWN"


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
    if read_state(settings) is None and not settings.database_url:
        return {"running": False, "home": str(settings.home), "processes": []}
    with Catalogue.open(settings) as catalogue:
        return look(settings, catalogue)


def look(settings: Settings, catalogue: Catalogue) -> dict[str, Any]:
    """The same over an open catalogue, for who looks often."""
    supervisor = read_state(settings)
    overview, survey = catalogue.overview(), catalogue.survey
    throughput, problems, indexes = survey.throughput(), survey.problems(), survey.indexes()
    receivers, emergencies = catalogue.audit_receivers.all(), catalogue.emergencies.figure()
    quality = catalogue.quality.rows(limit=len(ImageKind))
    engine = catalogue.generations.engine()
    moving = catalogue.generations.to_move(engine)
    jobs = Counter[str]()
    queue = Counter[str]()
    for job in overview.jobs:
        jobs[job.state] += job.count
        if job.oldest_s is not None:
            queue[job.kind] += job.count
    processes = known_processes(overview.processes, (supervisor or {}).get("processes", []))
    return {
        "running": supervisor is not None or any(p["state"] == "UP" for p in processes),
        "home": str(settings.home),
        "processes": processes,
        "database_restarts": ((supervisor or {}).get("database") or {}).get("restarts", 0),
        "studies": dict(overview.studies),
        "jobs": dict(jobs),
        "queue": dict(queue),
        "jobs_of_later_release": overview.jobs_of_later_release,
        "oldest_job_age_s": overview.oldest_open_job_s,
        "oldest_job_age_s_by_kind": dict(overview.oldest_by_kind),
        "encodings": dict(overview.encodings),
        "unread_reports": dict(overview.unread_reports),
        "refusals_last_day": overview.refusals_last_day,
        "waiting_reports": overview.waiting_reports,
        "messages": dict(overview.messages),
        "audit_receivers": [asdict(receiver) for receiver in receivers],
        "emergencies": emergencies,
        "quality_notices": sum(len(row.figures["notices"]) for row in quality if row.week == quality[0].week),
        "disk": asdict(disk) if (disk := disk_of(settings)) else None,
        "last_hours": {flow.lower(): list(counts) for flow, counts in throughput.items()},
        "problems": [asdict(problem) for problem in problems],
        "index": [asdict(index) for index in indexes],
        "index_engine": engine,
        "index_moving": len(moving),
    }


def known_processes(rows: Sequence[ProcessRow], children: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each process reports of itself, with what its supervisor knows of it (nothing where there is none).

    A silent process of this machine that the supervisor does not know belongs to an earlier start with more processes.
    """
    said = {row.name: row for row in rows}
    known = {child["name"]: child for child in children}
    here = {_machine(name) for name in known}
    shown = []
    for name in sorted(said.keys() | known.keys()):
        row = said.get(name)
        alive = row is not None and row.silent_s < SILENT_S and known.get(name, {"pid": row.pid})["pid"] == row.pid
        if name not in known and _machine(name) in here and not alive:
            continue
        shown.append(
            {
                "name": name,
                "state": row.state if row and alive else DOWN,
                "pid": row.pid if row and alive else None,
                "since": row.started_at if row and alive else None,
                "restarts": known.get(name, {}).get("restarts", 0),
                "detail": row.detail if row else "",
                "version": row.version if row else "",
            }
        )
    return shown


def _machine(process: str) -> str:
    """What follows the @ in the name of a process that was started by `radir serve`."""
    return process.partition("@")[2]


def _show(found: dict[str, Any]) -> None:
    if not found["running"]:
        out.print(f"radir is not running in {found['home']}; start it with: radir up --home {found['home']}")
        return
    table = Table(box=None, header_style="bold")
    for column in ("process", "state", "pid", "restarts", "detail"):
        table.add_column(column)
    for p in found["processes"]:
        table.add_row(p["name"], p["state"], str(p["pid"] or "-"), str(p["restarts"]), p["detail"])
    out.print(table)
    out.print()
    age = found["oldest_job_age_s"]
    for label, counts, note in (
        ("studies", found["studies"], ""),
        ("jobs", found["jobs"], ""),
        ("queue", found["queue"], f"; the oldest is {age:.0f} s old" if age is not None else ""),
        ("encodings", found["encodings"], ""),
    ):
        shown = ", ".join(f"{key} {count}" for key, count in counts.items()) or "none"
        out.print(f"{label:<10}  {shown}{note}", markup=False)
    if found["jobs_of_later_release"]:
        jobs = counted(found["jobs_of_later_release"], "job")
        out.print(f"{'unknown':<10}  {jobs} that a later release made, and only it can do")
    if found["index_engine"] != LOCAL or found["index_moving"]:
        to_go = f"; {counted(found['index_moving'], 'region')} to move: radir index show"
        out.print(f"{'index':<10}  {found['index_engine']}{to_go if found['index_moving'] else ''}")
    if disk := found["disk"]:
        out.print(f"{'disk':<10}  {disk['free_bytes'] / 1e9:.1f} GB free of {disk['total_bytes'] / 1e9:.1f} GB")
    if found["database_restarts"]:
        out.print(f"{'database':<10}  restarted {counted(found['database_restarts'], 'time')} since the start")
    if found["unread_reports"]:
        shown = ", ".join(f"{count} in {language!r}" for language, count in found["unread_reports"].items())
        out.print(f"{'reports':<10}  not read for their language: {shown}", markup=False)
    if found["waiting_reports"]:
        out.print(f"{'waiting':<10}  {counted(found['waiting_reports'], 'report')} without a study")
    if found["messages"]:
        shown = ", ".join(f"{outcome} {count}" for outcome, count in found["messages"].items())
        out.print(f"{'messages':<10}  {shown}")
    for receiver in found["audit_receivers"]:
        waits = f"{counted(receiver['waiting'], 'event')} to send"
        if receiver["failed"]:
            waits += f", not since {receiver['failed_since']:%Y-%m-%d %H:%M} UTC: {receiver['failed']}"
        out.print(f"{'audit':<10}  {receiver['name']}: {waits}", soft_wrap=True)
    if found["emergencies"]:
        shown = f"{counted(found['emergencies'], 'patient')} opened out of scope, now or in the last hour"
        out.print(f"{'emergency':<10}  {shown}: radir emergencies list")
    if found["quality_notices"]:
        out.print(f"{'quality':<10}  {counted(found['quality_notices'], 'notice')} of the last week: radir quality")
    if found["refusals_last_day"]:
        out.print(f"{'refused':<10}  {counted(found['refusals_last_day'], 'instance')} in the last day")
