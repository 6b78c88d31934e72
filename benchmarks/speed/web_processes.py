"""Several web processes and one index: each maps its files, or all ask one searching process.

    python -m benchmarks.speed.web_processes [--count 100000] [--processes 1,2,4] [--out docs/results]

A partition of ``--count`` vectors is built. *Mapped*: every process opens it and searches by itself. *Asked*: one
process has it open and answers the others over Unix sockets, a thread for each; a question is a vector and the name of
a filter, so that no mask travels. All processes ask at the same time, closely one after another. Memory: what the
processes took more than they had before opening, shared pages counted once. A filter lets half of all vectors through.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import results
from benchmarks.speed.index_search import embeddings
from radir_pacs.index import Allowed, GraphSettings, Partition, Selection, build, open_generation
from radir_pacs.types import F32

WHERE: dict[str, Any] = {"model_id": "benchmark", "region": "chest"}
DIM, K, QUERIES = 128, 10, 100
FILTERS = ("none", "half")
Search = Callable[[F32, str], Any]


def opened(folder: Path, name: str, count: int) -> Search:
    """Opens the partition; the filter's mask stands in memory, as those of the web service do."""
    generation = open_generation(folder / name, dim=DIM, **WHERE)
    partition = Partition(**WHERE, dim=DIM, generation=generation)
    mask = np.random.default_rng(0).random(count) < 0.5
    selections = {"none": Selection(None), "half": Selection(Allowed(0, mask))}
    return lambda query, narrowed: partition.search(query, K, selections[narrowed]).labels


def searching(folder: Path, name: str, count: int, address: str, pipe: Connection) -> None:
    """The one process that searches, until its pipe is closed."""
    before = _pss()
    search = opened(folder, name, count)

    def answer(connection: Any) -> None:
        while True:
            try:
                query, narrowed = connection.recv()
            except EOFError:
                return
            connection.send(search(query, narrowed))

    def accept() -> None:
        with Listener(address, "AF_UNIX") as listener:
            pipe.send("listens")
            while True:
                threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    pipe.recv()  # all have asked
    pipe.send(_pss() - before)


def asking(folder: Path, name: str, count: int, address: str | None, pipe: Connection, seconds: float) -> None:
    """A process that asks: itself, or at ``address``."""
    queries = embeddings(QUERIES, DIM, 4)
    before = _pss()
    if address is None:
        search = opened(folder, name, count)
    else:
        connection = Client(address, "AF_UNIX")

        def search(query: F32, narrowed: str) -> Any:
            connection.send((query, narrowed))
            return connection.recv()

    for query in queries:
        for narrowed in FILTERS:
            search(query, narrowed)
    pipe.send("ready")
    pipe.recv()
    taken: dict[str, list[float]] = {}
    for narrowed in FILTERS:
        taken[narrowed] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for query in queries:
                began = time.perf_counter()
                search(query, narrowed)
                taken[narrowed].append(time.perf_counter() - began)
    pipe.send(taken)
    pipe.recv()  # all have asked: pages are shared with those that still run
    pipe.send(_pss() - before)
    pipe.recv()


def _pss() -> float:
    return float(psutil.Process().memory_full_info().pss)


def measure(folder: Path, name: str, count: int, processes: int, *, asked: bool, seconds: float) -> dict[str, Any]:
    """One row of the table."""
    context = get_context("spawn")
    address = str(folder / f"socket-{processes}") if asked else None
    pipes, running = [], []

    def start(target: Callable[..., None], *arguments: Any) -> Connection:
        here, there = context.Pipe()
        process = context.Process(target=target, args=(folder, name, count, address, there, *arguments), daemon=True)
        process.start()
        running.append(process)
        return here

    server = start(searching) if asked else None
    if server is not None:
        server.recv()
    pipes = [start(asking, seconds) for _ in range(processes)]
    for step in ("ready", "go"):
        for pipe in pipes:
            if step == "ready":
                pipe.recv()
            else:
                pipe.send("go")
    taken = [pipe.recv() for pipe in pipes]
    if server is not None:
        server.send("done")
    for pipe in pipes:
        pipe.send("done")
    grown = [pipe.recv() for pipe in (*pipes, *([server] if server is not None else []))]
    for pipe in pipes:
        pipe.send("end")
    for process in running:
        process.join(30)
    figures: dict[str, Any] = {"asked": asked, "processes": processes, "bytes_a_vector": sum(grown) / count}
    for narrowed in FILTERS:
        seconds_each = np.concatenate([one[narrowed] for one in taken])
        p50, p99 = np.percentile(seconds_each, (50, 99)) * 1e3
        figures[narrowed] = {"p50_ms": p50, "p99_ms": p99, "a_second": len(seconds_each) / seconds}
    return figures


def page(rows: list[dict[str, Any]], count: int) -> str:
    """The result page."""
    lines = [
        f"# Several web processes over {count:,} vectors: mapped files or one searching process",
        "",
        "Searches alone, without HTTP and Postgres; all processes ask at once. *p50 / p99* in milliseconds, *per"
        " second*: searches of all processes together. Bytes per vector: of all processes together, above what they had"
        " before.",
        "",
        "| processes | index | p50 / p99 | per second | half let through, p50 / p99 | per second | bytes per vector |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [str(row["processes"]), "one process asked" if row["asked"] else "mapped by each"]
        for narrowed in FILTERS:
            found = row[narrowed]
            cells += [f"{found['p50_ms']:.2f} / {found['p99_ms']:.2f}", f"{found['a_second']:,.0f}"]
        lines.append(f"| {' | '.join((*cells, format(row['bytes_a_vector'], ',.0f')))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each filter and row")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--out", type=Path, help="folder for the result page, docs/results")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the web service: threads answer different questions
    rows = []
    with tempfile.TemporaryDirectory(prefix="radir-") as home:
        folder = Path(home)
        graph = GraphSettings(from_count=1, threads=os.cpu_count() or 1, least_recall=0)
        manifest = build(
            folder,
            **WHERE,
            labels=np.arange(args.count),
            vectors=embeddings(args.count, DIM, 2),
            built_at=datetime.now(UTC),
            graph=graph,
        )
        for processes in map(int, args.processes.split(",")):
            for asked in (False, True):
                rows.append(measure(folder, manifest.name, args.count, processes, asked=asked, seconds=args.seconds))
    text = page(rows, args.count)
    if args.out:
        results.write(args.out, "web-processes", {"count": args.count, "rows": rows}, text)
    print(json.dumps(rows) if args.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
