"""One installation on three machines: each machine and each link fails under load; how long until all goes on.

    python -m benchmarks.speed.three_machines [--out docs/results]

The drill of tests/machines/failures.py, whose figures make the page. It needs root, for network namespaces, RabbitMQ,
rclone and milvus-lite. Exit status 1 when something was lost or an answer was wrong, with what it was.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _pytest.outcomes import Skipped

from benchmarks import results

_COLUMNS = (
    *("what happened", "lasted", "taken", "answered", "found", "all indexed", "by the engine"),
    *("longest without an answer: all, best", "told in place of cases, how often"),
)


def page(figures: dict[str, Any]) -> str:
    """The result page."""
    moved, promotion = figures["move"], figures["promotion"]
    story = f"""
        One installation on three machines, which are Linux namespaces without a common folder: `front` (listener, web),
        `work` (worker, indexer, transfer), `keep` (relay, Postgres, RabbitMQ, an S3 server, milvus-lite). A modality
        sends a radiograph every {1 / figures["rate_hz"]:g} seconds, again until it is acknowledged. One reader asks all
        the time for all cases, one for the best ten. {figures["held"]:,} studies were there before. Under this load
        `radir index move` took {moved["vectors"]:,} vectors of {moved["partitions"]} regions from pgvector into Milvus,
        in {moved["seconds"]:.0f} s; then each machine was killed, and left without power; a model in shadow was
        promoted; and each link lost every packet silently, for {figures["cut_s"]:.0f} s."""
    held = f"""
        **Nothing was lost.** {figures["acknowledged"]:,} studies were acknowledged, after {figures["sent_again"]:,}
        attempts that were not. Each is stored byte for byte, INDEXED, and searchable exactly once. Of
        {figures["asked"]:,} questions {figures["answered"]:,} were answered, {figures["answered_by_engine"]:,} of them
        by way of Milvus. An answer holds acknowledged studies alone, and whoever asks for all gets what an earlier
        answer by the same model held. Each score is that of vectors of the one model that the answer names:
        {promotion["before"]} until the promotion, {promotion["after"]} after it. Instead of an answer there was a 503
        that said why and when to ask again, or silence; how often is in the table."""
    units = """
        In seconds: how long it lasted; from its end on, until a new study was taken, a question was answered, a new
        study was found, all that had been sent was INDEXED, the engine answered; and from its beginning on, the longest
        time without an answer for the reader of all cases and for the one of the best."""
    paragraphs = (" ".join(text.split()) for text in (story, held, units))
    table = [
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(_row(one) for one in figures["failures"]),
    ]
    return "\n\n".join(["# Three machines, each of which fails under load", *paragraphs, "\n".join(table)])


def _row(one: dict[str, Any]) -> str:
    times = [one[f"{name}_s"] for name in ("took", "taken", "answered", "found", "indexed", "by_engine")]
    told = ", ".join(f"{f'`{code}`' if code else 'silence'} {count}" for code, count in one["told"].items())
    cells = [
        one["name"],
        *("" if seconds is None else f"{seconds:.1f}" for seconds in times),
        ", ".join(f"{seconds:.1f}" for seconds in one["unanswered_s"]),
        told or "–",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the page and its figures there")
    args = parser.parse_args(arguments)
    from tests.machines.failures import long_drill  # brings torch, which a page does not need

    logging.disable()  # that the database is away and comes back is no news here
    print("three machines, under load; each step is told when all has gone on again", flush=True)
    with tempfile.TemporaryDirectory(prefix="radir-drill-") as folder:
        Path(folder).chmod(0o755)
        try:
            figures = long_drill(Path(folder))
        except Skipped as lacking:
            print(lacking.msg, file=sys.stderr)
            return 1
    text = page(figures)
    print(results.write(args.out, "three-machines", figures, text) if args.out else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
