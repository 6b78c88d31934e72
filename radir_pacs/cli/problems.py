"""``radir problems``: what was not encoded, refused, corrected, damaged or failed, and why; retry and drop.

Of an HL7 message or a report it says from where and when it came, never what stands in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.access.finding import code_of
from radir_pacs.catalogue import (
    Catalogue,
    Correction,
    DamagedInstance,
    FailedJob,
    KeptMessage,
    NotedInstance,
    ProblemCount,
    ProblemOf,
    ProcessRow,
    Refusal,
    WaitingReport,
)
from radir_pacs.cli.output import check_terminal, counted, is_agreed, out, print_json
from radir_pacs.cli.state import must_run, read_state
from radir_pacs.cli.status import DOWN, known_processes
from radir_pacs.cli.supervisor import CRASH_LOOP, last_words, log_path
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.printable import printable
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import CatalogueStudy, HeaderNote, StudyState

_NOTES = {
    HeaderNote.META_DIFFERS: "the file meta information names another instance",
    HeaderNote.NO_PREAMBLE: "no preamble",
    HeaderNote.NO_TRANSFER_SYNTAX: "no transfer syntax named",
    HeaderNote.PIXELS_TRUNCATED: "pixel data truncated",
}
_OUTCOME = {False: "counts", True: "kept aside"}
_STATES = (StudyState.QUARANTINED, StudyState.SKIPPED)
_DROP_REFUSED = "drop-refused"
_STAYS = {
    ProblemOf.STUDY: "only QUARANTINED studies are dropped; a SKIPPED one is left out on purpose: radir rules explain",
    ProblemOf.REFUSAL: "never stored, so no study: radir problems drop-refused",
    ProblemOf.JOB: "a failed job is no study: radir problems retry",
}
_MOST_DAMAGED = 100_000


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "problems",
        help="what was not encoded, refused, corrected, damaged or failed, and why; retry and drop",
        description="Lists processes that do not stay up, studies that were not encoded, instances that were refused,"
        " corrected or odd, damaged files and jobs that failed, with reason codes. 'retry' encodes studies and runs"
        " failed jobs again; 'drop' leaves quarantined studies as they are and takes them off the list; 'drop-refused'"
        " takes refused instances off it.",
    )
    parser.add_argument("action", nargs="?", choices=("retry", "drop", "drop-refused"), help="without it: the list")
    parser.add_argument("study", nargs="?", help="Study Instance UID")
    parser.add_argument("--reason", metavar="CODE", help="everything with this reason code")
    parser.add_argument("--all", action="store_true", help="everything that the action applies to")
    parser.add_argument("--dry-run", action="store_true", help="only say how many an action would apply to")
    parser.add_argument(
        "--yes",
        action="store_true",
        help="do not ask before an action on several; needed with --json, and without a terminal",
    )
    parser.add_argument("--limit", type=int, default=50, help="how many of each are listed (default 50)")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    must_run(settings)
    chosen = [bool(args.study), args.reason is not None, args.all]
    if args.action is None and any(chosen):
        raise BadInput("--reason and --all belong to: radir problems retry, drop or drop-refused")
    if args.action == _DROP_REFUSED and (args.study or sum(chosen) != 1):
        raise BadInput(f"radir problems {args.action} takes --reason CODE or --all")
    if args.action is not None and sum(chosen) != 1:
        raise BadInput(f"radir problems {args.action} takes a study, --reason CODE or --all")
    if args.dry_run and (args.action is None or args.study):
        raise BadInput("--dry-run belongs to an action with --reason or --all")
    with Catalogue.open(settings) as catalogue:
        if args.action is None:
            _show(_found(catalogue, settings, args.limit), as_json=args.json)
        elif not args.study and not _is_agreed(args, catalogue):
            return 0 if args.dry_run else 1
        elif args.action == _DROP_REFUSED:
            _drop_refused(args, catalogue)
        else:
            _act(args, catalogue)
    return 0


def _is_agreed(args: argparse.Namespace, catalogue: Catalogue) -> bool:
    """Whether the action on everything with a reason may begin: a person at a terminal is told how much and asked.

    Raises BadInput without ``--yes`` where nobody can be asked, or the answer would stand among the JSON.
    """
    if not args.dry_run:
        if args.yes:
            return True
        if args.json:
            raise BadInput(f"radir problems {args.action} --json does not ask: add --yes (--dry-run says how many)")
        check_terminal(f"radir problems {args.action}")
    code = None if args.reason is None else code_of(args.reason)
    counts = _counts(args.action, code, catalogue)
    if args.dry_run and args.json:
        print_json({name: {str(one.reason_code): one.count for one in rows} for name, rows in counts.items()})
        return False
    for name, rows in counts.items():
        for one in rows:
            out.print(f"{one.reason_code:<22} {one.count:>9} {name} ({one.where or 'refused'})", markup=False)
    total = sum(one.count for rows in counts.values() for one in rows)
    if args.dry_run or not total:
        out.print(f"{args.action} would apply to {total}")
        return False
    return is_agreed(f"{args.action} {total}")


def _counts(action: str, code: ReasonCode | None, catalogue: Catalogue) -> dict[str, list[ProblemCount]]:
    """What an action would apply to, by the rules of the action itself."""
    survey = catalogue.survey
    if action == _DROP_REFUSED:
        found = {"refused": survey.refused()}
    elif action == "drop":
        found = {"studies": survey.set_aside(StudyState.QUARANTINED)}
    else:  # SKIPPED is usually the right answer: only a code names such studies
        states = (StudyState.QUARANTINED,) if code is None else _STATES
        found = {"studies": survey.set_aside(*states), "jobs": survey.failed_jobs()}
    return {name: [one for one in rows if code in (None, one.reason_code)] for name, rows in found.items()}


def _drop_refused(args: argparse.Namespace, catalogue: Catalogue) -> None:
    dropped = catalogue.refusals.drop(None if args.reason is None else code_of(args.reason))
    if args.json:
        print_json({"refused": dropped})
    else:
        out.print(f"{counted(dropped, 'refusal')} taken off the list")


def _act(args: argparse.Namespace, catalogue: Catalogue) -> None:
    code = None if args.reason is None else code_of(args.reason)
    if args.action == "drop":
        studies, jobs = tuple(catalogue.studies.mark_skipped(args.study, code)), 0
    else:
        tried = catalogue.retry(args.study, code)
        studies, jobs = tried.studies, tried.jobs
    if args.study and not studies:
        state = catalogue.studies.get(args.study).state
        raise BadInput(f"nothing to {args.action}: the study is {state}")
    stay = _what_stays(code, catalogue) if args.action == "drop" and not args.study else []
    if args.json:
        print_json({"studies": studies, "jobs": jobs} | ({"stay": stay} if args.action == "drop" else {}))
    elif args.action == "drop":
        out.print(f"left as they are: {counted(len(studies), 'study', 'studies')}")
        for one in stay:
            line = f"still listed: {one['count']} {one['reason_code']} ({one['where'] or 'refused'}): {one['why']}"
            out.print(line, markup=False, soft_wrap=True)
    else:
        again = [counted(len(studies), "study", "studies"), *([counted(jobs, "job")] if jobs else [])]
        out.print(f"tried again: {', '.join(again)}")


def _what_stays(code: ReasonCode | None, catalogue: Catalogue) -> list[dict[str, Any]]:
    """What `drop` of this reason, or of all, left on the list, and why."""
    found: list[dict[str, Any]] = [
        {"of": one.of, "where": one.where, "reason_code": one.reason_code, "count": one.count, "why": _STAYS[one.of]}
        for one in catalogue.survey.problems()
        if one.reason_code is not ReasonCode.DROPPED and code in (None, one.reason_code)
    ]
    damaged = len(catalogue.damage.all(_MOST_DAMAGED)) if code in (None, ReasonCode.BLOB_DAMAGED) else 0
    if damaged:
        why = "damaged files, until these instances are sent again"
        found.append({"of": "FILE", "where": "damaged", "reason_code": "BLOB_DAMAGED", "count": damaged, "why": why})
    return found


@dataclass(frozen=True, kw_only=True)
class _Found:
    processes: Sequence[dict[str, Any]]
    studies: Sequence[CatalogueStudy]
    refusals: Sequence[Refusal]
    damaged: Sequence[DamagedInstance]
    jobs: Sequence[FailedJob]
    retried: Sequence[FailedJob]
    corrections: Sequence[Correction]
    noted: Sequence[NotedInstance]
    messages: Sequence[KeptMessage]
    waiting: Sequence[WaitingReport]


def _found(catalogue: Catalogue, settings: Settings, limit: int) -> _Found:
    set_aside = [study for state in _STATES for study in catalogue.studies.in_state(state, limit)]
    # Those that answer by the vectors of before, as the files of a later image or for another model did not come.
    set_aside += catalogue.studies.in_state(StudyState.INDEXED, limit, ReasonCode.BLOB_AWAY)
    return _Found(
        processes=_not_up(catalogue.processes.all(), settings),
        studies=[study for study in set_aside if study.reason_code is not ReasonCode.DROPPED],
        refusals=catalogue.refusals.recent(limit),
        damaged=catalogue.damage.all(limit),
        jobs=catalogue.jobs.failed(limit),
        retried=catalogue.jobs.retried(limit),
        corrections=catalogue.corrections.recent(limit),
        noted=catalogue.instances.noted(limit),
        messages=catalogue.messages.kept(limit),
        waiting=catalogue.report_versions.waiting(limit),
    )


def _not_up(rows: Sequence[ProcessRow], settings: Settings) -> list[dict[str, Any]]:
    """Processes that are down, or end within seconds whenever they are started: with the last line of their log."""
    children = (read_state(settings) or {}).get("processes", [])
    looping = {child["name"] for child in children if child.get("quick_ends", 0) >= CRASH_LOOP}
    return [
        {
            "process": process["name"],
            "state": "ENDS AGAIN AND AGAIN" if process["name"] in looping else process["state"],
            "restarts": process["restarts"],
            "last_line": last_words(log_path(settings.home, process["name"])),
        }
        for process in known_processes(rows, children)
        if process["name"] in looping or process["state"] == DOWN
    ]


def _show(found: _Found, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "processes": found.processes,
                "studies": [
                    {
                        "study": s.study_uid,
                        "accession_number": s.accession_number,
                        "state": s.state,
                        "reason_code": s.reason_code,
                        "reason": s.reason,
                    }
                    for s in found.studies
                ],
                "refused": [
                    {
                        "instance": r.sop_uid,
                        "reason_code": r.reason_code,
                        "reason": r.reason,
                        "status": r.dimse_status,
                        "source": r.source,
                        "at": r.at,
                    }
                    for r in found.refusals
                ],
                "corrected": [
                    {
                        "instance": c.sop_uid,
                        "changed": c.changed,
                        "counts": not c.aside,
                        "source": c.source,
                        "at": c.at,
                    }
                    for c in found.corrections
                ],
                "odd": [{"instance": n.sop_uid, "notes": n.notes, "source": n.source, "at": n.at} for n in found.noted],
                "damaged": [
                    {"study": d.study_uid, "instance": d.sop_uid, "found_at": d.found_at} for d in found.damaged
                ],
                "jobs": [asdict(job) for job in found.jobs],
                "retried": [asdict(job) for job in found.retried],
                "messages": [asdict(message) for message in found.messages],
                "waiting": [asdict(report) for report in found.waiting],
            }
        )
        return
    processes = [(p["process"], p["state"], str(p["restarts"]), p["last_line"]) for p in found.processes]
    studies = [
        (s.state, s.reason_code or "", s.accession_number or "-", str(s.study_date or "-"), s.study_uid, s.reason or "")
        for s in found.studies
    ]
    refusals = [(_at(r.at), r.source, r.reason_code, r.sop_uid or "-", r.reason) for r in found.refusals]
    corrections = [
        (_at(c.at), c.source, c.sop_uid, _OUTCOME[c.aside], " ".join(c.changed) or "pixel data")
        for c in found.corrections
    ]
    noted = [(_at(n.at), n.source, n.sop_uid, "; ".join(_NOTES[note] for note in n.notes)) for n in found.noted]
    damaged = [(_at(d.found_at), d.study_uid, d.sop_uid) for d in found.damaged]
    jobs, retried = (
        [(_at(j.at), j.kind, j.reason_code, j.key, j.error) for j in rows] for rows in (found.jobs, found.retried)
    )
    _table("processes", ("process", "state", "restarts", "last line of its log"), processes)
    _table("studies", ("state", "code", "accession", "date", "study", "why"), studies)
    _table("refused", ("at (UTC)", "from", "code", "instance", "why"), refusals)
    _table("came again with another header", ("at (UTC)", "from", "instance", "it", "changed"), corrections)
    _table("stored although odd", ("at (UTC)", "from", "instance", "what"), noted)
    _table("damaged files; send these instances again", ("found (UTC)", "study", "instance"), damaged)
    _table("failed jobs", ("at (UTC)", "kind", "code", "key", "why"), jobs)
    _table("jobs that failed and are tried again", ("at (UTC)", "kind", "code", "key", "why"), retried)
    messages = [(str(m.id), _at(m.at), m.sender, m.control_id, m.kind, m.reason_code, m.reason) for m in found.messages]
    _table("HL7 messages that were not used", ("no", "at (UTC)", "from", "id", "kind", "code", "why"), messages)
    waiting = [(_at(w.received_at), w.source, w.sender, w.status, w.named_study_uid or "-") for w in found.waiting]
    _table("reports that wait for their study", ("at (UTC)", "by", "from", "status", "study"), waiting)
    listed = (processes, studies, refusals, corrections, noted, damaged, jobs, retried, messages, waiting)
    if not any(listed):
        out.print("none")
    if any(s.state is StudyState.QUARANTINED for s in found.studies):
        out.print("radir problems retry STUDY, --reason CODE or --all encodes again; drop takes studies and jobs off")
    if refusals:
        out.print("radir problems drop-refused --reason CODE or --all takes refusals off this list")


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out.print(table)
