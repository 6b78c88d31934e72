"""One partition as it is served: build, memory, opening, and search under filters of every width.

    python -m benchmarks.experiments.index_partition [--count 1000000] [--dim 128]

Vectors lie in clusters near a 32-dimensional surface, as trained embeddings do. The partition is one segment, built on
all cores, and a tail of 1,000 vectors; it is opened in a process of its own, where one thread sends the queries. A
filter lets a random share through; label ids are either contiguous, or every second id belongs to another model. Recall
at 10 is against exact search. Writes docs/results/index-partition-COUNT.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.speed.index_search import embeddings
from radir_pacs.index import (
    Allowed,
    GraphSettings,
    Partition,
    Selection,
    build,
    exact_search,
    open_generation,
)
from radir_pacs.types import F32, I64

K, QUERIES, TAIL = 10, 200, 1000
WIDTHS = {"all": 1.0, "half": 0.5, "a tenth": 0.1, "1 in 200": 0.005, "1 in 5,000": 0.0002}
WHERE: dict[str, Any] = {"model_id": "benchmark", "region": "chest"}


def memory() -> dict[str, int]:
    """Bytes of this process: private (no file backs them), and of mapped files that it has read."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) << 10
    return {"private": found["Anonymous"], "mapped": found["Rss"] - found["Anonymous"]}


def child(folder: Path, name: str, dim: int, step: int, count: int) -> None:
    """Opens the generation and prints the figures of one kind of labels."""
    queries = embeddings(QUERIES, dim, 4)
    tail = embeddings(TAIL, dim, 5)
    random = np.random.default_rng(3)
    before = memory()
    start = time.perf_counter()
    generation = open_generation(folder / name, dim=dim, **WHERE)
    partition = Partition(**WHERE, dim=dim, generation=generation)
    partition.search(queries[0], K)
    figures: dict[str, Any] = {"open_and_first_answer_s": time.perf_counter() - start, "widths": {}}
    labels: I64 = generation.segments[0].labels
    partition.apply(labels=np.arange(1, TAIL + 1) * step + int(labels[-1]), vectors=tail)
    for width, share in WIDTHS.items():
        allowed = None
        if share < 1:
            mask = np.zeros(int(labels[-1]) + TAIL * step + 1, np.bool_)
            mask[::step] = random.random(len(mask[::step])) < share
            allowed = Allowed(0, mask)
        selection = Selection(allowed)
        times, found, asked, exact = [], 0, 0, 0
        hits = []
        for query in queries:
            start = time.perf_counter()
            partition.candidates(selection)
            hits.append(partition.search(query, K, selection))
            times.append(time.perf_counter() - start)
        vectors, known = generation.segments[0].vectors, labels
        wanted = None if allowed is None else np.flatnonzero(allowed.mask)
        wanted_tail = partition._snapshot.tail.live()
        for query, hit in zip(queries[:100], hits, strict=False):
            truth = truth_of(vectors, known, query, wanted, wanted_tail)
            found += len(np.intersect1d(truth, hit.labels))
            asked += len(truth)
            exact += hit.exact
        p50, p99 = np.percentile(times, (50, 99)) * 1e3
        figures["widths"][width] = {"recall": found / asked, "p50_ms": p50, "p99_ms": p99, "exact": exact / 100}
    after = memory()
    figures["private_bytes"] = (after["private"] - before["private"]) / count
    figures["nbytes"] = partition.nbytes / partition.count
    print(json.dumps(figures), flush=True)


def truth_of(vectors: F32, labels: I64, query: F32, wanted: I64 | None, tail: tuple[I64, F32]) -> I64:
    near, scores = exact_search(vectors, labels, query, K, wanted)
    late, late_scores = exact_search(tail[1], tail[0], query, K, wanted)
    order = np.argsort(-np.concatenate([scores, late_scores]), kind="stable")[:K]
    best: I64 = np.concatenate([near, late])[order]
    return best


def measure(count: int, dim: int, step: int, graph: GraphSettings) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        vectors = embeddings(count, dim, 2)
        cpu, start = os.times(), time.perf_counter()
        manifest = build(
            folder,
            **WHERE,
            labels=np.arange(count) * step,
            vectors=vectors,
            built_at=datetime.now(UTC),
            graph=graph,
        )
        built_s, after = time.perf_counter() - start, os.times()
        del vectors
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        command = [sys.executable, "-m", __spec__.name, "--child", manifest.name, "--folder", home, "--dim", str(dim)]
        command += ["--step", str(step), "--count", str(count)]
        said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    cpu_s = sum(after[:4]) - sum(cpu[:4])
    return {"step": step, "build_s": built_s, "build_cpu_s": cpu_s, "file_bytes": size / count, **said}


def page(rows: list[dict[str, Any]], count: int, dim: int) -> str:
    lines = [
        f"# A partition of {count:,} vectors of {dim} numbers",
        "",
        f"One segment and a tail of {TAIL:,}; k = {K}, one thread asks, {QUERIES} queries, recall over 100. Bytes per "
        "vector: of the mapped files, which every process shares, and private to each process. CPU seconds of a build "
        "include the check in a child.",
        "",
        "| labels | build s (CPU s) | files, bytes per vector | private, bytes per vector | open and first answer, s |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        name = "without gaps" if row["step"] == 1 else "every second one"
        lines.append(
            f"| {name} | {row['build_s']:.0f} ({row['build_cpu_s']:.0f}) | {row['file_bytes']:.0f} "
            f"| {row['private_bytes']:.0f} | {row['open_and_first_answer_s']:.3f} |"
        )
    lines += ["", "| labels | let through | recall | p50 ms | p99 ms | answered exactly |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = "without gaps" if row["step"] == 1 else "every second one"
        for width, found in row["widths"].items():
            lines.append(
                f"| {name} | {width} | {found['recall']:.3f} | {found['p50_ms']:.2f} | {found['p99_ms']:.2f} "
                f"| {found['exact']:.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--construction", type=int, default=GraphSettings.ef_construction)
    parser.add_argument("--steps", default="1,2")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    for hidden in ("--child", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--step", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(Path(arguments.folder), arguments.child, arguments.dim, arguments.step, arguments.count)
        return
    threads = len(os.sched_getaffinity(0))
    graph = GraphSettings(from_count=1, ef_construction=arguments.construction, threads=threads, least_recall=0)
    rows = []
    for step in map(int, arguments.steps.split(",")):
        rows.append(measure(arguments.count, arguments.dim, step, graph))
        print(json.dumps(rows[-1]), flush=True)
    figures = {"count": arguments.count, "dim": arguments.dim, "graph": vars(graph), "rows": rows}
    results.write(
        arguments.results, f"index-partition-{arguments.count}", figures, page(rows, arguments.count, arguments.dim)
    )


if __name__ == "__main__":
    main()
