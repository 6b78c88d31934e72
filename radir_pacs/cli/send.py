"""``radir send``: DICOM files to a peer by C-STORE."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from radir_pacs import config
from radir_pacs.cli.output import counted, out, print_json, progress
from radir_pacs.cli.state import read_state
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import CALLING_AE_TITLE, SendOutcome, SendResult, files_below, send_files
from radir_pacs.errors import BadInput

_NAMED = 5  # files per reason; --json names them all
_TRY_AGAIN = (SendOutcome.NO_ANSWER, SendOutcome.NOT_TRIED)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("send", help="send DICOM files by C-STORE")
    parser.add_argument("path", type=Path, nargs="+", help="folders or files")
    parser.add_argument("--to", metavar="AET@HOST:PORT", help="the peer; this installation's listener by default")
    parser.add_argument(
        "--calling-ae",
        metavar="AET",
        default=CALLING_AE_TITLE,
        help="AE title to call by, one that the peer admits (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when the peer did not store a file. Files that are not DICOM are listed but do not count."""
    destination = Destination.parse(args.to) if args.to else _own_listener(settings)
    results = send_paths([file for path in args.path for file in all_below(path)], destination, args.calling_ae)
    left_out = [result for result in results if result.outcome is SendOutcome.NOT_SENDABLE]
    stored = [result for result in results if result.outcome is SendOutcome.STORED]
    refused = [result for result in results if result not in left_out and result not in stored]
    if args.json:
        print_json(
            {
                "sent": len(stored),
                "refused": [_row(result) | {"status": result.status} for result in refused],
                "left_out": [_row(result) for result in left_out],
            }
        )
    else:
        tried = counted(len(results) - len(left_out), "file")
        out.print(f"{len(stored)} of {tried} stored at {destination}", markup=False)
        _say("not stored", refused)
        _say("left out", left_out)
        if any(result.outcome in _TRY_AGAIN for result in refused):
            out.print("send them again: what is already stored is not stored twice")
    if not stored and not refused:
        raise BadInput("there is no DICOM file among them")
    return 1 if refused else 0


def _row(result: SendResult) -> dict[str, object]:
    return {"file": str(result.path), "outcome": result.outcome, "reason": result.reason}


def _say(what: str, results: Sequence[SendResult]) -> None:
    """The number of files per reason, with the names of the first."""
    by_reason: dict[str, list[SendResult]] = {}
    for result in results:
        by_reason.setdefault(result.reason, []).append(result)
    for reason, found in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        out.print(f"  {len(found)} {what}: {reason}", markup=False)
        for result in found[:_NAMED]:
            out.print(f"    {result.path}", markup=False, soft_wrap=True)
        if len(found) > _NAMED:
            out.print(f"    and {len(found) - _NAMED} more (--json names them all)", markup=False)


def _own_listener(settings: Settings) -> Destination:
    """The listener of the installation that runs in the home folder, else the one that the settings name."""
    listener = (read_state(settings) or {}).get("listener")
    if listener is not None:
        return Destination(**listener)
    return Destination(ae_title=settings.ae_title, host=settings.listener_host, port=settings.listener_port)


def all_below(path: Path) -> list[Path]:
    """All files below ``path``. Raises BadInput when there are none."""
    if not path.exists():
        raise BadInput(f"there is no {path}")
    files = files_below(path)
    if not files:
        raise BadInput(f"no file below {path}")
    return files


def send_paths(files: Sequence[Path], destination: Destination, calling_ae: str = CALLING_AE_TITLE) -> list[SendResult]:
    """Send these files with a progress bar."""
    with progress() as bar:
        task = bar.add_task("sending by C-STORE", total=len(files))
        return send_files(files, destination, calling_ae=calling_ae, on_result=lambda _: bar.advance(task))
