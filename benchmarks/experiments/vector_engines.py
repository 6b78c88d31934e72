"""The engines that may hold the vectors, beside each other: files, pgvector and Milvus (milvus-lite as a server).

    python -m benchmarks.experiments.vector_engines [--counts 10000,50000] [--engines local,pgvector,milvus]

A catalogue of synthetic studies (`benchmarks.speed.hospital`), one region, 160 numbers. An index job fills each engine;
then the region's partition answers on one thread, among all cases and among random shares of them, as for a question's
filters. Recall at 10 is against exact search. The last columns are what decides between engine and catalogue where few
pass: the time an engine takes for a candidate more, and the catalogue for a vector. milvus-lite shows that the client
works; a cluster's speed it does not show. Writes docs/results/vector-engines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import results
from benchmarks.speed.hospital import DIM, REGION, Hospital, fill
from benchmarks.speed.index_search import embeddings
from radir_pacs.catalogue import Catalogue, embedded
from radir_pacs.config import Settings
from radir_pacs.index import Allowed, Partition, Selection, exact_search, partition_folder
from radir_pacs.index.engine import LOCAL, MILVUS, PGVECTOR
from radir_pacs.index.engines import Engines
from radir_pacs.query.partitions import Partitions
from radir_pacs.types import JobKind
from radir_workers.index_partition import IndexPartition
from tests.catalogue_material import claimed
from tests.conftest import free_port
from tests.vector_engines import MilvusServer, milvus_server

K, QUERIES = 10, 100
SHARES = (1.0, 0.1, 0.01)
CANDIDATES = (64, 1_024)
Times = list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="10000,50000")
    parser.add_argument("--engines", default=f"{LOCAL},{PGVECTOR},{MILVUS}")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--rows", type=Path, help="what an earlier run printed: only the page is written")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    names = arguments.engines.split(",")
    rows: list[dict[str, Any]] = []
    if arguments.rows:
        rows = [json.loads(line) for line in arguments.rows.read_text().splitlines() if line.startswith("{")]
    else:
        for count in map(int, arguments.counts.split(",")):
            rows += measure(count, names, arguments.queries)
    text = page(rows, arguments.queries)  # of rows that were printed before: as many queries as then
    results.write(arguments.results, "vector-engines", {"dim": DIM, "queries": arguments.queries, "rows": rows}, text)


def measure(count: int, names: list[str], queries: int) -> list[dict[str, Any]]:
    rows = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="radir-vector-engines-")))
        server: MilvusServer | None = None
        if MILVUS in names:
            server = stack.enter_context(milvus_server(home / "milvus", free_port()))
        settings = Settings(home=home / "home", milvus_url=server.url if server else "", milvus_timeout_s=60)
        stack.callback(embedded.stop, settings.home)
        hospital = Hospital(count=count)
        fill(settings, hospital)
        catalogue = stack.enter_context(Catalogue.open(settings))
        for name in names:
            row = {"count": count, "engine": name, **one(catalogue, settings, hospital, name, queries, server)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def one(
    catalogue: Catalogue, settings: Settings, hospital: Hospital, name: str, queries: int, server: MilvusServer | None
) -> dict[str, Any]:
    settings = replace(settings, index_engine=name)
    model_id = catalogue.models.kept()[0].model_id
    place = (model_id, REGION)
    before = held_bytes(catalogue, settings, place, name, server)
    catalogue.generations.choose_engine(name)
    engines = Engines(catalogue, settings)
    began, ticks = time.perf_counter(), time.process_time()
    IndexPartition(catalogue, settings.home, engines=engines)(claimed(catalogue, JobKind.INDEX, f"{model_id}/{REGION}"))
    built_s, cpu_s = time.perf_counter() - began, time.process_time() - ticks
    partition = Partitions(catalogue, settings).fresh(model_id, REGION, dim=DIM)
    found: dict[str, Any] = {
        "fill_s": built_s,
        "fill_cpu_s": cpu_s,
        "held_bytes": (held_bytes(catalogue, settings, place, name, server) - before) / hospital.count,
        "process_bytes": process_bytes(partition, name) / hospital.count,
        "by_share": {str(share): asked(partition, hospital, catalogue, place, share, queries) for share in SHARES},
    }
    if name != LOCAL:
        engine = engines.named(name)
        few, many = (median(partial(engine.nearest, place, hospital.vectors[5], count), 10) for count in CANDIDATES)
        found["candidate_us"] = 1e6 * (many - few) / (CANDIDATES[1] - CANDIDATES[0])
        labels = catalogue.encodings.labels_until(*place, catalogue.generations.snapshot_xmin())
        small, large = (
            median(partial(catalogue.encodings.vectors_of, *place, labels[:count]), 10) for count in CANDIDATES
        )
        found["vector_us"] = 1e6 * (large - small) / (CANDIDATES[1] - CANDIDATES[0])
    engines.close()
    return found


def asked(
    partition: Partition,
    hospital: Hospital,
    catalogue: Catalogue,
    place: tuple[str, str],
    share: float,
    queries: int,
) -> dict[str, float]:
    """Recall at 10, and ms per search, among a random share of the cases."""
    labels = catalogue.encodings.labels_until(*place, catalogue.generations.snapshot_xmin())
    lets = np.random.default_rng(3).random(len(labels)) < share
    selection = Selection(allowed=Allowed.of(labels[lets])) if share < 1 else Selection()
    allowed = labels[lets] if share < 1 else None
    times: Times = []
    hits = 0
    questions = embeddings(queries, DIM, 4)
    partition.search(questions[0], K, selection)
    for query in questions:
        began = time.perf_counter()
        answer = partition.search(query, K, selection)
        times.append(time.perf_counter() - began)
        truth = exact_search(hospital.vectors, labels, query, K, allowed)[0]
        hits += len(np.intersect1d(answer.labels, truth))
    return {
        "recall": hits / (K * queries),
        "p50_ms": 1e3 * float(np.median(times)),
        "p99_ms": 1e3 * float(np.quantile(times, 0.99)),
    }


def median(body: Callable[[], object], times: int) -> float:
    """Seconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        body()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def held_bytes(
    catalogue: Catalogue, settings: Settings, place: tuple[str, str], name: str, server: MilvusServer | None
) -> float:
    """What the engine takes: files for local, a table with its index for pgvector, memory for Milvus."""
    if name == PGVECTOR:
        return catalogue.vectors.size_bytes(place)
    if name == MILVUS:
        assert server is not None and server.pid is not None
        return psutil.Process(server.pid).memory_full_info().uss
    folder = partition_folder(settings.home, *place)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def process_bytes(partition: Partition, name: str) -> int:
    """What each searching process keeps besides: of local files, which are mapped, nothing that grows."""
    return 0 if name == LOCAL else partition.nbytes


def page(rows: list[dict[str, Any]], queries: int) -> str:
    lines = [
        "# Engines that hold the vectors",
        "",
        f"One region, {DIM} numbers per vector, {queries} queries on one thread, a search as a question makes it:"
        " candidates by the engine, vectors and deletions by the catalogue, filters as a mask. Bytes held: files of the"
        " local engine, table and index of pgvector, private memory of the milvus-lite server. Other work ran meanwhile"
        " (see the load average): times are upper bounds, and comparable with one another only roughly.",
        "",
        "| vectors | engine | filled in s | bytes held per vector | bytes per vector in each process |"
        + "".join(f" recall@10 / p50 / p99 ms, {share:.0%} pass |" for share in SHARES)
        + " µs per candidate | µs per vector of the catalogue |",
        "|---" * (7 + len(SHARES)) + "|",
    ]
    for row in rows:
        cells = [f"{row['count']:,}", row["engine"], f"{row['fill_s']:.0f}", f"{row['held_bytes']:,.0f}"]
        cells.append(f"{row['process_bytes']:.0f}" if row["process_bytes"] else "mapped")
        for share in SHARES:
            of = row["by_share"][str(share)]
            cells.append(f"{of['recall']:.3f} / {of['p50_ms']:.1f} / {of['p99_ms']:.1f}")
        cells += [f"{row[name]:.1f}" if name in row else "–" for name in ("candidate_us", "vector_us")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
