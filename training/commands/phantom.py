"""``radir phantom``: builds a synthetic hospital, or draws a sheet of its pictures."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from radir_pacs.cli.output import counted, progress, say_progress
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from ..phantoms.canvas import SIZES
from ..phantoms.hospital import HospitalRequest, build
from ..phantoms.house import FIRST, HOUSES
from ..phantoms.sheet import draw_sheet


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("phantom", help="build a synthetic hospital: DICOM images, reports, and the truth")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="a new or empty folder for the DICOM files (a study's report is report.dcm), reports.csv and truth.json",
    )
    parser.add_argument("--patients", type=_count, default=10, metavar="N", help="how many patients (default 10)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="same seed, same bytes (default 1)")
    parser.add_argument("--size", choices=list(SIZES), default="small", help="resolution at which chests are drawn")
    parser.add_argument("--kinds", type=_kinds, default=frozenset(ImageKind), metavar="cxr,ct", help="what to image")
    parser.add_argument(
        "--house",
        choices=list(HOUSES),
        default=FIRST,
        help="first: the hospital that the starter models were trained on; other: another scanner, other findings, "
        "other words (default first)",
    )
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes that share the work (default 1)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="draw the first patients on a picture sheet (PNG)")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _kinds(text: str) -> frozenset[ImageKind]:
    try:
        return frozenset(ImageKind(word.strip().upper()) for word in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of cxr and ct") from error


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    if args.out is None and args.sheet is None:
        raise BadInput("nowhere to write: use --out DIR, --sheet FILE or both")
    if args.seed < 0:
        raise BadInput("--seed must not be negative")
    size, began = SIZES[args.size], time.monotonic()
    summary: dict[str, object] = {"seed": args.seed, "size": size.name}
    if args.out is not None:
        order = HospitalRequest(
            out=args.out, patients=args.patients, seed=args.seed, size=size, kinds=args.kinds, house=args.house
        )
        studies = files = findings = 0
        with progress(transient=True) as shown:
            task = shown.add_task("patients", total=args.patients)
            for done, patient in enumerate(build(order, args.jobs), 1):
                studies += len(patient)
                files += sum(len(study["files"]) for study in patient)
                findings += sum(len(study["findings"]) for study in patient)
                shown.update(task, completed=done)
                if 10 * done // args.patients != 10 * (done - 1) // args.patients:
                    say_progress(f"{done} of {counted(args.patients, 'patient')}")
        summary |= {"out": str(args.out), "patients": args.patients, "studies": studies}
        summary |= {"files": files, "findings": findings}
    if args.sheet is not None:
        draw_sheet(args.sheet, args.seed, min(args.patients, 6), size)
        summary["sheet"] = str(args.sheet)
    summary["seconds"] = round(time.monotonic() - began, 1)
    if args.json:
        print(json.dumps(summary))
    else:
        print(", ".join(f"{key} {value}" for key, value in summary.items()))
    return 0
