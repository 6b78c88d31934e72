"""``radir similar STUDY --region "right lower lobe"``: the cases like this one, as a table, JSON or a DICOM SR."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import anatomy, config
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import counted, out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.delivery.report import report_of
from radir_pacs.errors import BadInput, UnknownRegion
from radir_pacs.query import Searcher
from radir_pacs.query.notices import worded
from radir_pacs.reports import Severity, read_question
from radir_pacs.reports.typed import MOST_REGIONS, Typed, place_named, several
from radir_pacs.similar_cases import (
    Filters,
    FindingNote,
    Offer,
    Query,
    SimilarCaseList,
    WeightedRegion,
    Words,
    WordsOf,
)

_WIDE = 120  # columns at which whole UIDs fit beside the rest


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("similar", help="the cases most like a study, in a region")
    parser.add_argument("study", help="Study Instance UID")
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        help='for example "right lower lobe", RLL, "RUL consolidation"; several, with weights: "left pleura:2,heart", '
        "or repeat; default chest",
    )
    parser.add_argument(
        "--words",
        metavar="TEXT",
        help="any words, also such as no model was trained on: they order the cases most alike in --region, by default "
        'the region that they name ("outer third of the left lung")',
    )
    parser.add_argument(
        "--words-of",
        choices=list(WordsOf),
        default=WordsOf.REGION,
        help="what the words name: a place whose look is compared, or a finding that is looked for (default region)",
    )
    parser.add_argument("--limit", type=int, default=None, help="how many cases")
    parser.add_argument("--modality", action="append", default=[], help="only these modalities (repeat)")
    parser.add_argument("--sex", action="append", default=[], choices=["M", "F", "O"], help="only these sexes")
    parser.add_argument("--age", metavar="FROM-TO", help="only these ages in years")
    parser.add_argument("--since", metavar="YYYY-MM-DD", type=config.day, help="only studies from this date on")
    parser.add_argument("--same-patient", action="store_true", help="include the patient's own other studies")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--sr", metavar="FILE", type=Path, help="write the answer as a DICOM structured report")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when a structured report was asked for and there is no case to report."""
    limit = settings.result_limit if args.limit is None else args.limit
    if not 1 <= limit <= settings.result_limit_max:
        raise BadInput(f"--limit is from 1 to {settings.result_limit_max}")
    if args.words is not None and args.sr:
        raise BadInput("--sr is for regions, not for --words")
    must_run(settings)
    try:
        words = None if args.words is None else Words(text=args.words, of=WordsOf(args.words_of))
    except ValueError as error:
        raise BadInput(f"--words: {error}") from None
    asked = _regions(args.region or [place_named(words.text).name if words else "chest"])
    if words and len(asked) > 1:
        raise BadInput("in words one region is asked about")
    (first, weight), *others = asked
    query = Query(
        study_uid=args.study,
        region=first.region.key,
        weight=weight,
        also=tuple(WeightedRegion(key=read.region.key, weight=counts) for read, counts in others),
        limit=limit,
        filters=replace(_filters(args), finding=next((read.affirmed for read, _ in asked if read.affirmed), None)),
        words=words,
    )
    with Catalogue.open(settings) as catalogue:
        searcher = Searcher(catalogue, settings)
        answer = searcher.similar(query, caller())
        offers = () if answer.cases else searcher.nearest(query, caller())
        read_as = tuple(read.notice for read, _ in asked if read.notice)
        answer = replace(answer, notices=(*read_as, *answer.notices))
        if args.sr and answer.cases:
            sr = report_of(answer, catalogue, settings)
            sr.save_as(args.sr, enforce_file_format=True)
    if args.json:
        print_json(as_json(answer, offers))
    else:
        show(answer, offers=offers)
        if args.sr and answer.cases:
            out.print(f"structured report: {args.sr}")
    return 1 if args.sr and not answer.cases else 0


def _regions(texts: Sequence[str]) -> list[tuple[Typed, float]]:
    """What each text asks for, and its weight. Raises BadInput, UnknownRegion."""
    found: list[tuple[Typed, float]] = []
    for text in texts:
        if ":" not in text:
            try:
                found.append((read_question(text), 1.0))  # a finding and its region may have a comma between them
                continue
            except UnknownRegion:
                if "," not in text:
                    raise
        found += [(read_question(words), weight) for words, weight in several(text, "--region")]
    if len(found) > MOST_REGIONS:
        raise BadInput(f"--region names more than {MOST_REGIONS} regions")
    return found


def _explain_nothing(answer: SimilarCaseList, offers: Sequence[Offer]) -> None:
    """Why there is no case, and what to ask instead."""
    region, filters = answer.region_answered.name, answer.query.filters
    why = "no other study has been indexed for it yet"
    if filters.finding is not None:
        why = f"no report of a case that may be shown affirms {_words(filters.finding)} there"
    elif replace(filters, exclude_same_patient=True) != Filters():
        why = "no case passes the filters"
    elif answer.query.offset:
        why = "there are no further cases"
    out.print(f"no case in the {region}: {why}", soft_wrap=True)
    for offer in offers:
        where = anatomy.region(offer.region).name
        asked = where if offer.finding is None else f"{_words(offer.finding)}, {where}"
        out.print(f'  try --region "{asked}": {counted(offer.candidates, "case")}', markup=False, soft_wrap=True)
    if filters.exclude_same_patient:
        out.print("  the patient's own other studies are left out; --same-patient includes them", soft_wrap=True)


def _words(finding: str) -> str:
    return finding.replace("_", " ")


def _filters(args: argparse.Namespace) -> Filters:
    low: float | None = None
    high: float | None = None
    if args.age:
        try:
            low, high = (float(part) if part else None for part in args.age.split("-"))
        except ValueError:
            raise BadInput(f"--age: {args.age!r} is not FROM-TO") from None
    return Filters(
        modalities=frozenset(m.upper() for m in args.modality),
        sexes=frozenset(args.sex),
        age_from=low,
        age_to=high,
        study_date_from=args.since,
        exclude_same_patient=not args.same_patient,
    )


def _note(note: FindingNote) -> str:
    grade = f" ({note.severity})" if note.severity else ""
    return f"{note.words}{grade}" if note.polarity != "absent" else note.words


def _said(notes: Iterable[FindingNote]) -> str:
    """Each concept once, with its gravest severity: a terminal has no room for places."""
    gravest: dict[tuple[str, str], FindingNote] = {}
    for note in notes:
        known = gravest.setdefault((note.polarity, note.concept), note)
        if _grade(note) > _grade(known):
            gravest[note.polarity, note.concept] = note
    return ", ".join(map(_note, gravest.values()))


def _grade(note: FindingNote) -> int:
    return -1 if note.severity is None else Severity(note.severity).rank


def as_json(answer: SimilarCaseList, offers: Sequence[Offer] = ()) -> dict[str, Any]:
    """The answer for machines: no names or dates of other patients. ``offers``: what to ask where there is no case."""
    return {
        "study": answer.query.study_uid,
        "region_asked": answer.region_asked.key,
        "region_answered": answer.region_answered.key,
        "regions": [
            {"asked": one.asked.key, "answered": one.answered.key, "weight": one.weight} for one in answer.regions
        ],
        "words": None if answer.query.words is None else asdict(answer.query.words),
        "model": answer.model_id,
        "generation": answer.generation,
        "as_of": answer.as_of.isoformat(),
        "exact": answer.exact,
        "more": answer.more,
        "warnings": [worded(notice) for notice in answer.notices],
        "cases": [
            {
                "rank": case.rank,
                "score": round(case.score, 6),
                "by_region": [round(score, 6) for score in case.by_region],
                "study": case.study.study_uid,
                "series": case.series_uid,
                "instance": case.sop_uid,
                "shared": [_note(note) for note in case.shared],
                "contradicting": [_note(note) for note in case.contradicting],
            }
            for case in answer.cases
        ],
        "offers": [asdict(offer) for offer in offers],
    }


def _shortened(uid: str) -> str:
    """Beginning and end of a UID, for a narrow terminal; ``--json`` has all of it."""
    return uid if len(uid) <= 20 else f"{uid[:10]}…{uid[-8:]}"


def show(answer: SimilarCaseList, *, pictured: dict[str, str] | None = None, offers: Sequence[Offer] = ()) -> None:
    """Print the answer as a table. ``pictured``: what is in each picture, by study UID, where that is known.

    ``offers``: what to ask instead, where there is no case.
    """
    for notice in answer.notices:
        out.print(Text("note ", style="yellow") + Text(worded(notice)))
    whole = out.width >= _WIDE
    shared = any(case.shared for case in answer.cases)
    contradicting = any(case.contradicting for case in answer.cases)
    if not answer.cases:
        _explain_nothing(answer, offers)
        return
    regions = answer.regions if len(answer.regions) > 1 else ()
    where = ", ".join(f"{one.answered.name} (weight {one.weight:g})" for one in regions) or answer.region_answered.name
    out.print(f"cases like {answer.query.study_uid} in the {where}", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    for one in regions:
        table.add_column(one.answered.name, justify="right")
    table.add_column("study", no_wrap=True)
    if pictured is not None:
        table.add_column("in the picture")
    if shared:
        table.add_column("reports agree on")
    if contradicting:
        table.add_column("reports differ on")
    for case in answer.cases:
        uid = case.study.study_uid
        by_region = [f"{score:.3f}" for score in case.by_region] if regions else []
        cells = [str(case.rank), f"{case.score:.3f}", *by_region, uid if whole else _shortened(uid)]
        if pictured is not None:
            cells.append(pictured.get(uid, ""))
        if shared:
            cells.append(_said(case.shared))
        if contradicting:
            cells.append(_said(case.contradicting))
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table)
    method = "exact" if answer.exact else "approximate"
    out.print(
        f"{answer.more} more; model {answer.model_id}, {method} search, as of {answer.as_of:%Y-%m-%d %H:%M:%S} UTC. "
        "Decision support, not diagnosis."
    )
