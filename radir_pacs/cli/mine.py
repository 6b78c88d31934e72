"""``radir mine``: findings of one report, or of a whole collection, and label tables of public collections."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from radir_pacs import durable
from radir_pacs.cli.output import counted, progress
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, StorageFailed
from radir_pacs.printable import TableWriter
from radir_pacs.reports.findings import MinedReport
from radir_pacs.reports.labels import LabelSet, described, label_set, label_sets
from radir_pacs.reports.language import READ
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.lexicon_check import refuse_faults
from radir_pacs.reports.mining import Miner, is_blank
from radir_pacs.reports.render import as_page, in_terminal
from radir_pacs.reports.stored import findings_to_json
from radir_pacs.reports.tables import BadRow, read_reports
from radir_pacs.separators import decoded
from radir_pacs.types import ImageKind

_NAMED_ROWS = 20  # bad rows that are listed one by one


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "mine",
        help="read the findings out of radiology reports",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="label sets:\n" + "".join(f"  {name:<12}{described(name)}\n" for name in label_sets()),
    )
    parser.add_argument(
        "source", nargs="?", type=Path, metavar="REPORTS", help="CSV file, folder of .txt files, or one .txt file"
    )
    parser.add_argument(
        "--text", metavar="TEXT", help="without REPORTS: the report itself; with a CSV file: its text columns, a,b"
    )
    parser.add_argument("--id", metavar="COLUMN", help="column of the report's id in a CSV file")
    parser.add_argument("--kind", type=str.upper, choices=list(ImageKind), help="what was imaged")
    parser.add_argument("--out", type=Path, metavar="FILE", help="findings, a JSON object per report (JSON lines)")
    parser.add_argument(
        "--labels", choices=label_sets(), help="also derive these labels, 0 or 1 each; the sets are below"
    )
    parser.add_argument("--labels-out", type=Path, metavar="FILE", help="label table (CSV): a row per report")
    parser.add_argument(
        "--lexicon", type=Path, action="append", default=[], metavar="DIR", help="a further lexicon folder"
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="one report as a page to look at; with --text or a .txt file"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    if bool(args.labels) != bool(args.labels_out):
        raise BadInput("--labels and --labels-out go together")
    further = tuple(path.resolve() for path in args.lexicon)
    if further:
        refuse_faults("en", further)
    lexicon = load("en", further)
    miner = Miner(lexicon)
    kind = ImageKind(args.kind) if args.kind else None
    if args.source is not None and not _is_one_report(args.source):
        if args.html:
            raise BadInput("--html shows one report: give it as a .txt file or by --text TEXT")
        return _collection(args, miner, kind)
    report = miner.mine(_one_text(args), kind)
    labels = label_set(args.labels, lexicon) if args.labels else None
    if args.html:
        with _replacing(args.html) as page:
            page.write(as_page(report))
    foreign = report.language not in READ
    blank = is_blank(report.text, miner.lexicon_of(report.language) or lexicon)
    if labels:
        with args.labels_out.open("w", encoding="utf-8", newline="") as file:
            known = {} if blank or foreign else labels.of(report.findings)
            _label_writer(file, labels).row({labels.id_column: "1"} | known)
    if blank:
        print("warning: the report is empty: nothing is known about it", file=sys.stderr)
    if foreign:
        print(f"warning: {_unread(report)}", file=sys.stderr)
    if args.json:
        print(json.dumps({"language": report.language, "findings": findings_to_json(report.findings)}, indent=2))
    elif not args.html:
        print(in_terminal(report, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return 0


def _is_one_report(source: Path) -> bool:
    return source.suffix.lower() == ".txt" and not source.is_dir()


def _one_text(args: argparse.Namespace) -> str:
    if args.source is None and args.text is None:
        raise BadInput("nothing to read: use --text TEXT, a .txt file, or a table with --id and --text columns")
    if args.source is None:
        return sys.stdin.read() if args.text == "-" else str(args.text)
    if args.text or args.id or args.out:
        raise BadInput("--text, --id and --out go with a table or a folder, not with one .txt file")
    try:
        return decoded(args.source.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {args.source}: {error.strerror}") from error


def _unread(report: MinedReport) -> str:
    return f"the report is not read: its language is {report.language!r}, and only English and German are read"


def _collection(args: argparse.Namespace, miner: Miner, kind: ImageKind | None) -> int:
    if args.out is None and args.labels_out is None:
        raise BadInput("nowhere to write: use --out FILE, --labels with --labels-out, or both")
    columns = [column.strip() for column in (args.text or "").split(",") if column.strip()]
    rows = read_reports(args.source, args.id, columns)
    labels = label_set(args.labels, miner.lexicon) if args.labels else None
    reports = findings = blank = 0
    unread: Counter[str] = Counter()
    bad: list[BadRow] = []
    with ExitStack() as stack:
        out = stack.enter_context(_replacing(args.out)) if args.out else None
        table = stack.enter_context(_replacing(args.labels_out)) if labels else None
        writer = _label_writer(table, labels) if table and labels else None
        shown = stack.enter_context(progress(transient=True))
        task = shown.add_task("reports", total=None)
        for row in rows:
            shown.advance(task)
            if isinstance(row, BadRow):
                bad.append(row)
                continue
            report = miner.mine(row.text, kind)
            reports += 1
            findings += len(report.findings)
            foreign = report.language not in READ
            unread[report.language] += foreign
            empty = foreign or is_blank(report.text, miner.lexicon_of(report.language) or miner.lexicon)
            blank += empty and not foreign
            if out:
                print(json.dumps(_line(row.id, report)), file=out)
            if writer and labels:
                known = {} if empty else labels.of(report.findings)
                writer.row({labels.id_column: row.id} | known)
    for row in bad[:_NAMED_ROWS]:
        print(f"error: {row.where}: {row.reason}", file=sys.stderr)
    if len(bad) > _NAMED_ROWS:
        print(f"error: and {counted(len(bad) - _NAMED_ROWS, 'more row')}", file=sys.stderr)
    if blank:
        what = "label cells stay blank (unknown)" if labels else "nothing is known of them"
        print(f"warning: reports without text: {blank} of {reports}; {what}", file=sys.stderr)
    unread = +unread
    if unread:
        languages = ", ".join(f"{count} in {language!r}" for language, count in unread.most_common())
        print(f"warning: reports not read because of their language: {languages}", file=sys.stderr)
    summary: dict[str, object] = {"reports": reports, "findings": findings, "blank_reports": blank}
    summary["unread_reports"] = dict(unread)
    summary["bad_rows"] = [f"{row.where}: {row.reason}" for row in bad]
    if args.json:
        print(json.dumps(summary))
    else:
        unreadable = f"{counted(len(bad), 'row')} could not be read"
        print(f"{counted(reports, 'report')}, {counted(findings, 'finding')}, {unreadable}")
    return 1 if bad else 0


def _line(key: str, report: MinedReport) -> dict[str, object]:
    return {"id": key, "kind": report.kind, "language": report.language, "findings": findings_to_json(report.findings)}


def _label_writer(file: IO[str], labels: LabelSet) -> TableWriter:
    return TableWriter(file, [labels.id_column, *labels.rules])


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that gets its name only when it is complete; a failure leaves the earlier file."""
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(durable.replacing(path))
            file = stack.enter_context(partial.open("w", encoding="utf-8", newline=""))
        except OSError as error:
            raise StorageFailed(f"cannot write {path}: {error.strerror}") from error
        yield file
