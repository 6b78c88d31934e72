"""What the audit record costs an answer: the same question with and without it, in pairs, in one process.

    python -m benchmarks.speed.audit_record [--studies 10000] [--pairs 1000] [--work DIR] [--json] [--out docs/results]

Fills a home folder of its own with studies (`hospital`; ``--work`` keeps it), and asks the searcher as a web process
does, with the embedded Postgres behind it: `Searcher.similar`, which records the question and each case in the
transaction that reads the cases, and `Searcher.unseen`, which does all but that. Which of a pair is asked first is
drawn by lot, so that what the first leaves warm favours neither. Issue and promise: no answer is slower by more than
2 ms.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks import results
from benchmarks.speed import stack
from benchmarks.speed.hospital import REGION, Hospital, fill, queries, uid_of
from radir_pacs.callers import Caller, Role
from radir_pacs.catalogue import Catalogue, stop_embedded
from radir_pacs.query import Searcher
from radir_pacs.similar_cases import Query

CASES = (1, 10, 50)
ASKED_MS = 2.0
_READER = Caller(name="reader", role=Role.RADIOLOGIST, address="192.0.2.7")
_UNMEASURED = 20
_SEED = 7


def measure(home: Path, studies: int, pairs: int) -> dict[str, Any]:
    """Milliseconds by number of cases in an answer."""
    hospital = Hospital(count=studies)
    settings = stack.settings_in(home, log_level="WARNING")
    if not (home / "filled").exists():
        home.mkdir(parents=True, exist_ok=True)
        fill(settings, hospital)
        (home / "filled").touch()
    with Catalogue.open(settings) as catalogue:
        searcher = Searcher(catalogue, settings)
        try:
            rows = [_row(searcher, hospital, limit, pairs) for limit in CASES]
        finally:
            searcher.close()
        with psycopg.connect(catalogue.conninfo) as connection:
            counted = connection.execute("SELECT count(*) FROM audit_event").fetchone()
    assert counted is not None
    return {"studies": studies, "rows": rows, "events": counted[0]}


def _row(searcher: Searcher, hospital: Hospital, limit: int, pairs: int) -> dict[str, Any]:
    asked = queries(hospital, min(pairs, hospital.count))
    first = np.random.default_rng(_SEED).integers(0, 2, pairs).astype(bool)
    with_ms, without_ms = np.zeros(pairs), np.zeros(pairs)
    for number in range(-_UNMEASURED, pairs):
        query = Query(study_uid=uid_of(asked[number % len(asked)]), region=REGION, limit=limit)
        for recorded in (True, False) if first[number] else (False, True):
            began = time.perf_counter()
            answer = searcher.similar(query, _READER) if recorded else searcher.unseen(query)
            took_ms = (time.perf_counter() - began) * 1e3
            if len(answer.cases) != limit:
                raise SystemExit(f"error: {len(answer.cases)} cases where {limit} were asked for")
            if number >= 0:
                (with_ms if recorded else without_ms)[number] = took_ms
    more = with_ms - without_ms
    return {
        "cases": limit,
        "pairs": pairs,
        "without_ms": _percentiles(without_ms),
        "with_ms": _percentiles(with_ms),
        "median_difference_ms": float(np.median(more)),
        "interval_95_ms": _interval(more),
        "p99_difference_ms": float(np.percentile(with_ms, 99) - np.percentile(without_ms, 99)),
    }


def _percentiles(values_ms: np.ndarray) -> list[float]:
    return [float(one) for one in np.percentile(values_ms, (50, 99))]


def _interval(more_ms: np.ndarray) -> list[float]:
    """Of the median difference, by a bootstrap over pairs."""
    drawn = np.random.default_rng(_SEED).choice(more_ms, (2000, len(more_ms)))
    return [float(one) for one in np.percentile(np.median(drawn, axis=1), (2.5, 97.5))]


def page(figures: dict[str, Any]) -> str:
    lines = [
        "# What the audit record costs an answer",
        "",
        f"The same question with and without its record, in pairs, in one process over {figures['studies']:,} studies;"
        " milliseconds, *p50 / p99*. The record is one event for the question and one for each case, in the"
        " transaction that reads the cases. *Difference*: the median over pairs with its 95 % interval, and that of the"
        f" two p99. Asked: at most {ASKED_MS:.0f} ms.",
        "",
        "| cases in the answer | without | with | difference of a pair | difference of the p99 | pairs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures["rows"]:
        without, recorded = (" / ".join(f"{one:.1f}" for one in row[name]) for name in ("without_ms", "with_ms"))
        low, high = row["interval_95_ms"]
        lines.append(
            f"| {row['cases']} | {without} | {recorded} | {row['median_difference_ms']:+.2f} ({low:+.2f} … {high:+.2f})"
            f" | {row['p99_difference_ms']:+.1f} | {row['pairs']:,} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.audit_record", description=__doc__)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--work", type=Path, help="keeps the filled home folder for the next run")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radir-") as made:
        home = (args.work or Path(made)) / "home"
        try:
            figures = measure(home, args.studies, args.pairs)
        finally:
            stop_embedded(home)
    if args.out:
        results.write(args.out, "audit-record", figures, page(figures))
    print(json.dumps(figures) if args.json else page(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
