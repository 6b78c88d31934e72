"""``radir sr check``: structured reports checked against the rules that we promise, one sentence per fault."""

from __future__ import annotations

import argparse
from pathlib import Path

from radir_pacs.cli.output import counted, out, print_json
from radir_pacs.config import Settings
from radir_pacs.errors import DicomRefused


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("sr", help="check structured reports of similar cases")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="what dciodvfy and PixelMed do not see: TID 1500 as we write it, evidence, nothing of another patient",
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM file, ours or as a PACS gave it back")
    check.add_argument("--json", action="store_true", help="for machines")
    check.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """Exit code 1 when a file breaks a rule or cannot be read."""
    found = {str(path): _faults(path) for path in args.files}
    if args.json:
        print_json(found)
    else:
        for name, faults in found.items():
            out.print(f"{name}: {counted(len(faults), 'fault') if faults else 'sound'}", markup=False, soft_wrap=True)
            for fault in faults:
                out.print(f"  {fault}", markup=False, soft_wrap=True)
    return 1 if any(found.values()) else 0


def _faults(path: Path) -> list[str]:
    from radir_pacs.delivery.check.template import violations  # highdicom takes a second to import
    from radir_pacs.dicom.header import read_attributes
    from radir_pacs.dicom.stored_header import dataset_of

    try:
        return violations(dataset_of(read_attributes(path)))
    except DicomRefused as reason:
        return [f"cannot be read: {reason}"]
