"""``radir dataset``: builds a retrieval data set from a collection of reports, and explains pairs of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from radir_pacs import config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.output import progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.printable import counted
from radir_pacs.reports.tables import BadRow
from radir_pacs.types import ImageKind

from ..datasets import sources
from ..datasets.archive import Archive, pseudonym_key

SETTINGS = ("home", "database_url")  # of the installation that --source archive reads


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("dataset", help="a retrieval data set from reports, in the MIMIC-IR layout")
    parser.add_argument(
        "action", choices=["build", "show"], help="build a data set, or explain a pair of images in one"
    )
    parser.add_argument(
        "--source",
        choices=["mimic-cxr", "ct-rate", "csv", "archive"],
        help="build: the collection's layout, or this installation",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="the collection's folder or CSV file (not for archive), or the data set",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="build: where the data set is written")
    parser.add_argument("--id", metavar="COLUMN", help="csv: column with the image's path or id")
    parser.add_argument("--text", metavar="COLUMNS", help="csv: columns with the text, a,b")
    parser.add_argument("--patient", metavar="COLUMN", help="csv: column that identifies the patient")
    parser.add_argument(
        "--kind", type=str.upper, choices=list(ImageKind), default=ImageKind.CXR, help="csv: what was imaged"
    )
    parser.add_argument(
        "--least-images", type=int, default=20, metavar="N", help="leave out regions with fewer images (default 20)"
    )
    parser.add_argument("--split", default="test", help="show: train, val or test (default test)")
    parser.add_argument(
        "--region", metavar="NAME", help="show: compare under this region; without it, by whole reports"
    )
    parser.add_argument("--pair", type=int, nargs=2, metavar=("I", "J"), help="show: rows of the region's list, from 0")
    parser.add_argument("--json", action="store_true", help="print JSON")
    config.add_flags(parser, only=SETTINGS)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    if args.action == "build" and args.source == "archive":
        if settings is None:
            raise BadInput("--source archive needs the settings of an installation")
        must_run(settings)
        key = pseudonym_key(settings.home)
        with Catalogue.open(settings) as catalogue:
            return _build(args, Archive(catalogue, key))
    if args.root is None:
        raise BadInput("where is the collection or the data set? Use --root DIR")
    return _build(args) if args.action == "build" else _show(args)


def _build(args: argparse.Namespace, archive: Archive | None = None) -> int:
    from ..datasets.build import (
        build,  # imported here: scipy is slow to import, and ``radir`` registers every command
    )

    if args.source is None or args.out is None:
        raise BadInput("build needs --source and --out")
    if args.source == "csv" and args.patient is None:
        alone = "without --patient each row counts as a separate patient, so one patient may be in two splits"
        print(f"warning: {alone}", file=sys.stderr)
    least_images = max(2, args.least_images)
    with progress(transient=True) as shown:
        task = shown.add_task("reports", total=None)
        built = build(
            sources.archive(archive) if archive else _cases(args),
            args.out,
            source=args.source,
            least_images=least_images,
            progress=lambda what, done, total: shown.update(
                task, description=what, completed=done, total=total or None
            ),
        )
    for row in built.bad_rows:
        print(f"error: {row.where}: {row.reason}", file=sys.stderr)
    summary = {
        "images": built.images,
        "regions": {split: len(found) for split, found in built.regions.items()},
        "silent_reports": built.silent,
        "blank_reports": built.blank,
        "bad_rows": len(built.bad_rows),
        "out": str(args.out),
    }
    if archive:
        summary["left_out"] = archive.left_out
    if args.json:
        print(json.dumps(summary))
    else:
        for split, images in built.images.items():
            print(f"{split}: {counted(images, 'image')}, {counted(len(built.regions.get(split, {})), 'region')}")
        if archive and archive.left_out:
            left_out = counted(archive.left_out, "study", "studies")
            print(f"{left_out} left out: of modalities that are neither radiograph nor CT, or both")
        print(f"{args.out / 'statistics.html'} shows what is in it")
    why = built.why_no_region(least_images)
    if why:
        print(f"error: {why}", file=sys.stderr)
    return 1 if built.bad_rows or why else 0


def _cases(args: argparse.Namespace) -> Iterator[sources.Case | BadRow]:
    if args.source == "mimic-cxr":
        return sources.mimic_cxr(args.root)
    if args.source == "ct-rate":
        return sources.ct_rate(args.root)
    columns = [column.strip() for column in (args.text or "").split(",") if column.strip()]
    if not args.id or not columns:
        raise BadInput("--source csv needs --id COLUMN and --text COLUMN[,COLUMN…]")
    return sources.table(
        args.root, id_column=args.id, text_columns=columns, patient_column=args.patient, kind=ImageKind(args.kind)
    )


def _show(args: argparse.Namespace) -> int:
    from ..data.retrieval_set import RetrievalSet
    from ..datasets.show import explain_pair

    dataset = RetrievalSet(folder=args.root, split=args.split)
    if args.pair is None:
        rows = [{"region": name, "images": len(dataset.paths(name))} for name in dataset.names()]
        if not rows:
            few = "no region had enough images for a list of its own (build: --least-images)"
            print(f"warning: {args.split}: {few}; --pair without --region explains whole reports", file=sys.stderr)
        if args.json:
            print(json.dumps(rows))
        for row in () if args.json else rows:
            print(f"{row['images']:>7}  {row['region']}")
        return 0
    pair = explain_pair(dataset, args.region, *args.pair)
    print(json.dumps(pair.as_json(), indent=2) if args.json else pair.as_text())
    return 0
