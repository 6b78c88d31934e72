"""Search of one partition: exact, by graph and the two as `Partition` mixes them, beside faiss and usearch.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.index_search [--sizes 1000,10000,100000] [--dim 256]

Prints three tables: by size; the cost of one candidate of the graph in exact rows (`part.ROWS_PER_CANDIDATE`); by
filter. Vectors lie in clusters near a 32-dimensional surface, as embeddings do. Every search and build uses one
thread; times are CPU times, so that load on the machine hardly changes them; `us` is the median over the queries.
Recall is at 10, against exact search. Peers: pip install faiss-cpu usearch.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import results
from radir_pacs.index import Allowed, Partition, Selection, build, exact_search, open_generation
from radir_pacs.index.builder import GraphSettings
from radir_pacs.index.graph import EF_SEARCH, Graph
from radir_pacs.index.part import ROWS_PER_CANDIDATE
from radir_pacs.types import F32, I64

K = 10
QUERIES = 50
M, EF_CONSTRUCTION = GraphSettings.m, GraphSettings.ef_construction
Search = Callable[[F32], Any]  # a query vector in, labels out


def embeddings(count: int, dim: int, seed: int) -> F32:
    """Unit float32 [count, dim] in 200 clusters near a 32-dimensional surface, one surface for every seed."""
    surface = np.random.default_rng(0).standard_normal((32, dim)).astype(np.float32)
    centres = np.random.default_rng(1).standard_normal((200, 32)).astype(np.float32)
    random = np.random.default_rng(seed)
    latent = centres[random.integers(0, 200, count)] + 0.7 * random.standard_normal((count, 32), np.float32)
    vectors = latent @ surface + 0.5 * random.standard_normal((count, dim), np.float32)
    unit: F32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def timed(search: Search, queries: F32, truth: list[set[int]]) -> tuple[float, float]:
    """(median us, recall)."""
    search(queries[0])
    times, found = [], 0
    for query, best in zip(queries, truth, strict=True):
        start = time.process_time()
        labels = search(query)
        times.append(time.process_time() - start)
        found += len(best.intersection(int(label) for label in labels))
    return float(np.median(times)) * 1e6, found / max(1, sum(map(len, truth)))


def optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def faiss_index(faiss: Any, vectors: F32) -> Any:
    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.graph.efConstruction = EF_CONSTRUCTION
    index.add(vectors)
    return index


def faiss_search(faiss: Any, index: Any, allowed: I64 | None) -> Search:
    chosen = {} if allowed is None else {"sel": faiss.IDSelectorBatch(allowed)}
    parameters = faiss.SearchParametersHNSW(efSearch=EF_SEARCH, **chosen)
    return lambda query: index.search(query[None], K, params=parameters)[1][0]


def usearch_index(usearch: Any, vectors: F32) -> Any:
    index = usearch.Index(
        ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION,
        expansion_search=EF_SEARCH,
    )  # fmt: skip
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return index


def by_size(console: Console, sizes: list[int], dim: int, queries: F32) -> Graph:
    """Prints the first table; returns the graph of the largest size."""
    faiss, usearch = optional("faiss"), optional("usearch.index")
    table = Table("vectors", "search", "build s", "us", "recall", title=f"By size, {dim} dimensions, k = {K}")
    graph = None
    for count in sizes:
        vectors, labels = embeddings(count, dim, 2), np.arange(count)
        truth = [set(exact_search(vectors, labels, query, K)[0].tolist()) for query in queries]

        def row(name: str, built_s: float, search: Search) -> None:
            us, recall = timed(search, queries, truth)  # noqa: B023 (called in this turn)
            table.add_row(f"{count:,}", name, f"{built_s:.1f}", f"{us:,.0f}", f"{recall:.3f}")  # noqa: B023

        row("exact", 0, lambda query: exact_search(vectors, labels, query, K)[0])  # noqa: B023
        start = time.process_time()
        graph = Graph.build(vectors, m=M, ef_construction=EF_CONSTRUCTION, threads=1)
        row("Graph", time.process_time() - start, lambda query: graph.search(query, EF_SEARCH)[:K])  # noqa: B023
        if faiss:
            start = time.process_time()
            peer = faiss_index(faiss, vectors)
            row(f"faiss {faiss.__version__}", time.process_time() - start, faiss_search(faiss, peer, None))
        if usearch:
            start = time.process_time()
            other = usearch_index(usearch, vectors)
            row("usearch", time.process_time() - start, lambda query: other.search(query, K, threads=1).keys)  # noqa: B023
    console.print(table)
    assert graph is not None
    return graph


def by_fetch(console: Console, graph: Graph, vectors: F32, queries: F32) -> None:
    """The cost of the k-th candidate, in rows of exact search over the same vectors."""
    labels = np.arange(len(vectors))
    exact_us, _ = timed(lambda query: exact_search(vectors, labels, query, K)[0], queries, [set()] * len(queries))
    row_us = exact_us / len(vectors)
    table = Table("fetched", "us", "us per candidate", "= exact rows", title=f"Candidates, {len(vectors):,} vectors")
    for fetch in (128, 256, 512, 1024, 2048, 4096):
        us, _ = timed(lambda query: graph.search(query, fetch), queries, [set()] * len(queries))  # noqa: B023
        table.add_row(f"{fetch:,}", f"{us:,.0f}", f"{us / fetch:.2f}", f"{us / fetch / row_us:.0f}")
    console.print(table, f"exact: {row_us * 1000:.1f} ns per row; ROWS_PER_CANDIDATE = {ROWS_PER_CANDIDATE}")


def by_filter(console: Console, vectors: F32, queries: F32) -> None:
    """A filter that passes a random share, as `Partition` searches it, and as faiss filters inside its graph."""
    labels, dim = np.arange(len(vectors)), vectors.shape[1]
    faiss = optional("faiss")
    peer = faiss_index(faiss, vectors) if faiss else None
    table = Table("let through", "search", "us", "recall", "exact", title=f"By filter, {len(vectors):,} vectors")
    with tempfile.TemporaryDirectory() as home:
        where: dict[str, Any] = {"model_id": "benchmark", "region": "chest"}
        settings = GraphSettings(from_count=1, threads=1, least_recall=0)
        manifest = build(
            Path(home), labels=labels, vectors=vectors, built_at=datetime.now(UTC), graph=settings, **where
        )
        generation = open_generation(Path(home) / manifest.name, dim=dim, **where)
    partition = Partition(**where, dim=dim, generation=generation)
    random = np.random.default_rng(3)
    for share in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001):
        allowed = None if share == 1 else np.flatnonzero(random.random(len(labels)) < share)
        selection = Selection(None if allowed is None else Allowed.of(allowed))
        truth = [set(exact_search(vectors, labels, query, K, allowed)[0].tolist()) for query in queries]
        exact = np.mean([partition.search(query, K, selection).exact for query in queries])
        us, recall = timed(lambda query: partition.search(query, K, selection).labels, queries, truth)  # noqa: B023
        table.add_row(f"{share:.1%}", "Partition", f"{us:,.0f}", f"{recall:.3f}", f"{exact:.0%}")
        us, recall = timed(lambda query: exact_search(vectors, labels, query, K, allowed)[0], queries, truth)  # noqa: B023
        table.add_row("", "exact", f"{us:,.0f}", f"{recall:.3f}", "100%")
        if peer is not None:
            us, recall = timed(faiss_search(faiss, peer, allowed), queries, truth)
            table.add_row("", "faiss", f"{us:,.0f}", f"{recall:.3f}", "0%")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,5000,10000,20000,50000,100000")
    parser.add_argument("--dim", type=int, default=256)
    arguments = parser.parse_args()
    sizes = sorted(int(size) for size in arguments.sizes.split(","))
    console = Console()
    queries = embeddings(QUERIES, arguments.dim, 4)
    console.print(results.origin(results.made()), soft_wrap=True)
    graph = by_size(console, sizes, arguments.dim, queries)
    vectors = embeddings(sizes[-1], arguments.dim, 2)
    by_fetch(console, graph, vectors, queries)
    by_filter(console, vectors, queries)


if __name__ == "__main__":
    main()
