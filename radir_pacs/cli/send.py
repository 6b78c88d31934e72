"""``radir send``: DICOM files to a peer by C-STORE."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from radir_pacs import config
from radir_pacs.cli.output import out, print_json, progress
from radir_pacs.cli.state import read_state
from radir_pacs.config import Settings
from radir_pacs.delivery.send import Destination, SendResult, dicom_files, send_files
from radir_pacs.errors import BadInput


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("send", help="send DICOM files by C-STORE")
    parser.add_argument("path", type=Path, nargs="+", help="folders or files")
    parser.add_argument("--to", metavar="AET@HOST:PORT", help="the peer; this installation's listener by default")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when the peer did not store a file."""
    destination = Destination.parse(args.to) if args.to else _own_listener(settings)
    results = send_paths([file for path in args.path for file in files_below(path)], destination)
    refused = [result for result in results if result.reason]
    if args.json:
        print_json(
            {
                "sent": len(results) - len(refused),
                "refused": [{"file": str(r.path), "status": r.status, "reason": r.reason} for r in refused],
            }
        )
    else:
        out.print(f"{len(results) - len(refused)} of {len(results)} files stored at {destination}")
        for reason, count in Counter(result.reason for result in refused).most_common():
            out.print(f"  {count} not stored: {reason}", markup=False)
        if any(result.status is None for result in refused):
            out.print("send them again: what is stored is not stored twice")
    return 1 if refused else 0


def _own_listener(settings: Settings) -> Destination:
    """The listener of the installation that runs in the home folder, else the one that the settings name."""
    listener = (read_state(settings) or {}).get("listener")
    if listener is not None:
        return Destination(**listener)
    return Destination(ae_title=settings.ae_title, host=settings.listener_host, port=settings.listener_port)


def files_below(path: Path) -> list[Path]:
    """All DICOM files below ``path``. Raises BadInput when there are none."""
    if not path.exists():
        raise BadInput(f"there is no {path}")
    files = list(dicom_files(path))
    if not files:
        raise BadInput(f"no DICOM file below {path}")
    return files


def send_paths(files: Sequence[Path], destination: Destination) -> list[SendResult]:
    """Send these files with a progress bar."""
    with progress() as bar:
        task = bar.add_task("sending by C-STORE", total=len(files))
        return send_files(files, destination, on_result=lambda _: bar.advance(task))
