"""``radir audit``: who saw this patient, what did this caller see; and whether the trail is whole."""

from __future__ import annotations

import argparse
import functools
import os
import re
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import AuditRow, Catalogue, Chain
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import counted, out, print_json, progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.printable import printable

_SHOWN = 100
_DIGEST = re.compile(r"[0-9a-f]{64}")  # SHA-256
_REASON_CHARACTERS = 400
_LATE_S = 300.0  # the relay seals every few seconds


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "audit",
        help="who saw which patient, who did what; whether the trail is whole",
        description="Lists events of the audit trail, newest first: one per patient that was revealed. 'verify'"
        " computes the chain of hashes over them anew; events are sealed every few seconds, the newest not yet."
        " 'retire' moves events from before --until into a file; their seals stay, so that the chain is still whole."
        " 'resend' sends the receivers of the settings everything from --since on once more; 'forget' lets a --receiver"
        " go that no setting names any more, and for which everything has been kept since. 'skip' goes on behind the"
        " one event that a --receiver refuses for good, which stops all that follow; the trail says why.",
    )
    parser.add_argument(
        "action", nargs="?", choices=("verify", "retire", "resend", "forget", "skip"), help="without it: the list"
    )
    parser.add_argument(
        "--patient", metavar="ID", help="events about this patient (or ISSUER\\ID), also under ids that were merged"
    )
    parser.add_argument("--study", metavar="UID", help="events about this study")
    parser.add_argument("--caller", metavar="NAME", help="what this token, reader or user saw and did")
    parser.add_argument("--event", type=str.upper, choices=[str(event) for event in AuditEvent], help="one kind")
    parser.add_argument("--since", metavar="TIME", type=config.moment, help="from then on: 2026-03-01T08:00")
    parser.add_argument("--until", metavar="TIME", type=config.moment, help="before then")
    parser.add_argument("--limit", type=int, default=_SHOWN, help="how many events (%(default)s)")
    parser.add_argument("--before", type=int, metavar="EVENT", help="older than this event: the next page")
    parser.add_argument(
        "--expect", metavar="DIGEST", type=_digest, help="with verify: a digest noted earlier, which must be there"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="with retire: the file for the events, a new one")
    parser.add_argument(
        "--export",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="with verify: what retire wrote",
    )
    parser.add_argument("--receiver", metavar="NAME", help="with forget and skip: syslog or fhir")
    parser.add_argument("--reason", default="", help="with skip: why, for the trail; no names")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when the trail is not whole."""
    must_run(settings)
    if args.limit < 1:
        raise BadInput("--limit is at least 1")
    with Catalogue.open(settings) as catalogue:
        if args.action == "verify":
            return _verify(args, catalogue)
        if args.action == "retire":
            return _retire(args, catalogue)
        if args.action == "resend":
            return _resend(args, catalogue)
        if args.action == "forget":
            return _forget(args, catalogue, settings)
        if args.action == "skip":
            return _skip(args, catalogue)
        rows = catalogue.audit.events(
            caller=args.caller,
            study_uid=args.study,
            patient_id=args.patient,
            event=AuditEvent(args.event) if args.event else None,
            since=_moment(args.since),
            until=_moment(args.until),
            most=args.limit,
            before=args.before,
        )
        catalogue.audit.note_read(caller(), study_uid=args.study, patient_id=args.patient)  # before it is shown
    if args.json:
        print_json([asdict(row) for row in rows])
    else:
        _show(rows, args.limit)
    return 0


def _forget(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> int:
    if not args.receiver:
        raise BadInput("which one? radir audit forget --receiver NAME; radir status names them")
    if args.receiver in {name for name in ("syslog", "fhir") if getattr(settings, f"audit_{name}")}:
        raise BadInput(f"audit_{args.receiver} names it: take it out of the settings first")
    catalogue.audit_receivers.forget(args.receiver, caller())
    if args.json:
        print_json({"forgotten": args.receiver})
    else:
        out.print(f"nothing waits for {args.receiver} any more", markup=False)
    return 0


def _skip(args: argparse.Namespace, catalogue: Catalogue) -> int:
    """One event, which stays in the trail here; the next one that is refused needs a decision of its own."""
    reason = " ".join(args.reason.split())
    if not args.receiver or not reason or not reason.isprintable() or len(reason) > _REASON_CHARACTERS:
        raise BadInput("radir audit skip takes --receiver NAME and a --reason of at most 400 characters")
    row = catalogue.audit_receivers.skip(args.receiver, reason, caller())
    if args.json:
        print_json({"receiver": args.receiver, "skipped": row.id, "event": row.event})
    else:
        out.print(f"{args.receiver} will not have event {row.id} ({row.event}); the trail here keeps it", markup=False)
    return 0


def _digest(text: str) -> str:
    """The form of ``--expect``: one that was cut short is no digest, rather than one that the trail has lost."""
    digest = text.strip().lower()
    if not _DIGEST.fullmatch(digest):
        raise argparse.ArgumentTypeError(f"not a digest (64 hex digits): {text}")
    return digest


def _moment(given: datetime | None) -> datetime | None:
    """A time without a zone is the time here."""
    return given.astimezone(UTC) if given is not None else None


def _show(rows: tuple[AuditRow, ...], limit: int) -> None:
    if not rows:
        out.print("no event matches")
        return
    table = Table("event", "time", "what", "caller", "role", "from", "study", "more", box=box.SIMPLE)
    for row in rows:
        more = ", ".join(f"{name} {value}" for name, value in row.detail.items())
        told = (row.caller, row.role, row.address, row.study_uid or "", more)
        cells = (Text(printable(cell)) for cell in told)  # what was called by others is no markup
        table.add_row(str(row.id), f"{row.at.astimezone():%Y-%m-%d %H:%M:%S}", row.event, *cells)
    out.print(table)
    if len(rows) == limit:
        out.print(f"older ones: --before {rows[-1].id}")


def _verify(args: argparse.Namespace, catalogue: Catalogue) -> int:
    with progress(transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in args.export]
            chain = catalogue.audit.verify(args.expect, lambda seals: bar.update(task, completed=seals), files)
    if args.json:
        print_json(asdict(chain))
    else:
        out.print(_said(chain), soft_wrap=True)
        if chain.unsealed:
            out.print(f"{counted(chain.unsealed, 'event')} not sealed yet, the oldest for {chain.oldest_s or 0:.0f} s")
        if _is_late(chain):
            out.print("NOT SEALED: is the relay running? See: radir status")
    return 0 if chain.broken_at is None and chain.found and not _is_late(chain) else 1


def _retire(args: argparse.Namespace, catalogue: Catalogue) -> int:
    """The oldest events into a file that its owner alone may read, then out of the table."""
    if args.until is None or args.out is None:
        raise BadInput("radir audit retire takes --until TIME and --out FILE")
    before = _moment(args.until)
    assert before is not None
    with open(args.out, "xb", opener=functools.partial(os.open, mode=0o600)) as file:
        try:
            count = catalogue.audit.retire(before, file, by=caller())
        except BadInput:  # nothing has left the table
            args.out.unlink()
            raise
    if not count:
        args.out.unlink()
    if args.json:
        print_json({"events": count, "file": str(args.out) if count else None})
    else:
        out.print(f"{counted(count, 'event')} retired" + (f" to {args.out}: keep it" if count else ""), soft_wrap=True)
    return 0


def _resend(args: argparse.Namespace, catalogue: Catalogue) -> int:
    """For a receiver that lost what it had; copies are told by the number of the event in each message."""
    since = _moment(args.since)
    if since is None:
        raise BadInput("radir audit resend takes --since TIME")
    catalogue.audit.note_read(caller(), study_uid=None, patient_id=None)
    names = catalogue.audit_receivers.send_again(since)
    if args.json:
        print_json({"receivers": list(names)})
    else:
        out.print(f"sent once more to: {', '.join(names)}" if names else "no receiver had any event of that time")
    return 0


def _is_late(chain: Chain) -> bool:
    return chain.oldest_s is not None and chain.oldest_s > _LATE_S


def _said(chain: Chain) -> str:
    whole = f"{counted(chain.seals, 'seal')} over {counted(chain.events, 'event')}"
    if chain.broken_at is not None:
        return f"NOT WHOLE: {whole} fit; seal {chain.broken_at} does not: events were changed or removed there"
    if not chain.found:
        return f"NOT WHOLE: {whole} fit, but the digest expected is not among them: the end was cut off"
    if chain.retired:
        whole += f" ({counted(chain.retired, 'seal')} of exported events not computed: give --export)"
    return f"whole: {whole}; keep this digest elsewhere and give it to --expect later: {chain.digest}"
