"""The result page of `query_http`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.hospital import DIM
from benchmarks.speed.query_http_questions import LISTS, SIMILAR, Question

GROWTH_ASKED = 1.5  # ten times the studies: at most so many times the latency
_NARROW = 128  # numbers per vector for which the bytes were asked
_NARROWER_BYTES = 4 * (DIM - _NARROW)  # nothing else of a case depends on how long its vector is


def page(sizes: Sequence[dict[str, Any]], peers: Sequence[str]) -> str:
    """The result page: our table, how cost grows, the peers."""
    counts = [f"{size['count']:,}" for size in sizes]
    lines = [
        "# Questions over HTTP",
        "",
        f"Studies filled straight into the catalogue, one region, {DIM} numbers per vector, one small client over HTTP"
        " unless the row says otherwise; `radir up` with its default settings. *p50 / p99* in milliseconds, in"
        " brackets the processor time of web and Postgres per question; *recall* at 10, against exact search over the"
        " cases that may be answered.",
        "",
        *_head("what", *(f"{count} studies" for count in counts), "grows, per ten times", "asked"),
    ]
    for question in (*SIMILAR, *LISTS):
        rows = [size["questions"][question.name] for size in sizes]
        lines.append(
            _line(question.name, *map(_cell, rows), _growth([r["p50_ms"] for r in rows], sizes), _asked(question))
        )
    lines += [_line(name, *(show(size) for size in sizes), "", asked) for name, show, asked in _FIGURES]
    lines += ["", f"Growth is of the median, from one size to the next; at most {GROWTH_ASKED} times is asked."]
    if peers:
        lines += ["", "## The same vectors in other libraries", "", _PEERS_TEXT]
        for size, count in zip(sizes, counts, strict=True):
            lines += ["", *_head(f"{count} vectors", "RadIR-PACS over HTTP", *peers)]
            for question in SIMILAR:
                if question.clients == 1:
                    own = _cell(size["questions"][question.name])
                    theirs = [_cell(size["peers"][peer]["questions"][question.name]) for peer in peers]
                    lines.append(_line(question.name, own, *theirs))
            built = [size["peers"][peer] for peer in peers]
            lines.append(_line("build, s", f"{size['build_s']:.1f}", *(f"{one['build_s']:.1f}" for one in built)))
            own_bytes = f"{size['web_bytes_a_vector']:,.0f}"
            lines.append(_line("bytes per vector", own_bytes, *(f"{one['bytes_a_vector']:,.0f}" for one in built)))
            if "peers_run" in size:
                lines += [
                    "",
                    f"The other libraries' figures for {count} vectors are of the run of {size['peers_run']}.",
                ]
    return "\n".join(lines) + "\n"


_PEERS_TEXT = (
    "Called in one process, on one thread, without HTTP, attributes, rights or deletions: a floor. Graphs with M 16,"
    " ef_construction 200, ef 128. A filter is a Python function for hnswlib, a bitmap for faiss, a condition with"
    " iterative scan for pgvector (its build loads the table too). Bytes: ours by which the web processes grew, theirs"
    " of the index as saved, of table and indexes for pgvector. An index kept by --work shows the time of the run that"
    " built it, which may have had less of the machine."
)
_FIGURES: tuple[tuple[str, Callable[[dict[str, Any]], str], str], ...] = (
    ("first question, nothing built, s", lambda size: f"{size['first_unbuilt_s']:.2f}", "1 (3 at a million)"),
    ("first question after a restart, s", lambda size: f"{size['first_after_restart_s']:.2f}", "1 (3 at a million)"),
    ("build of the partition, s", lambda size: f"{size['build_s']:.1f}", "10 at 100,000, 150 at a million"),
    (
        "memory of web, before / after, MiB",
        lambda size: f"{size['web_before_mib']:,.0f} / {size['web_mib']:,.0f}",
        "",
    ),
    ("bytes per vector in web (shared pages once)", lambda size: f"{size['web_bytes_a_vector']:,.0f}", ""),
    (
        "of these in mapped files: vectors, links, labels",
        lambda size: f"{size['index_bytes_a_vector']:,.0f}",
        "",
    ),
    (
        f"the same with {_NARROW} numbers per vector, reckoned",
        lambda size: f"{size['web_bytes_a_vector'] - _NARROWER_BYTES:,.0f}",
        "800",
    ),
    (
        "peak of worker and indexer, before / while building, MiB",
        lambda size: f"{size['worker_before_mib']:,.0f} / {size['worker_mib']:,.0f}",
        "",
    ),
)


def _cell(row: dict[str, Any]) -> str:
    recall = f", recall {row['recall']:.3f}" if "recall" in row else ""
    processor = f" ({_ms(row['processor_ms'])})" if "processor_ms" in row else ""
    return f"{_ms(row['p50_ms'])} / {_ms(row['p99_ms'])}{processor}{recall}"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _growth(medians: Sequence[float], sizes: Sequence[dict[str, Any]]) -> str:
    """How many times longer the median is for ten times the studies, between neighbouring sizes."""
    grown = []
    for at in range(1, len(sizes)):
        tenfold = np.log10(sizes[at]["count"] / sizes[at - 1]["count"])
        grown.append(f"{(medians[at] / medians[at - 1]) ** (1 / tenfold):.1f}")
    return ", ".join(grown)


def _asked(question: Question) -> str:
    p50, p99 = question.asked
    if p99 is None:
        return ""
    return f"p99 {p99:g}" if p50 is None else f"{p50:g} / {p99:g}"


def _head(*cells: str) -> list[str]:
    return [_line(*cells), _line(*("---" for _ in cells))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
