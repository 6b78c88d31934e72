"""Graph engines side by side on the same vectors: memory, what a second process adds, recall, latency, build.

    python -m benchmarks.experiments.index_engines [--count 200000] [--dim 128] [--engines hnswlib,faiss-flat]

Vectors lie in clusters near a 32-dimensional surface, as trained embeddings do. Every engine gets M 16 and the same
``--construction``, and builds on all cores. Each is then opened in a process of its own, which answers on one thread
at growing ef until recall at 10 reaches .98 against exact search; whatever is quantised is scored again with the
float32 vectors of a mapped file. Bytes are a vector's share of private memory plus that of every mapped file; the
second process opens the same files and adds its private memory only. Writes docs/results/index-engines-COUNT. Peers:
pip install faiss-cpu usearch zvec.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.speed.index_search import embeddings
from radir_pacs.index import exact_search
from radir_pacs.types import F32

K, M, QUERIES = 10, 16, 200
ENOUGH = 0.98
EFS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
RESCORED = 4  # times k are fetched from a quantised graph
VECTORS = "vectors.f32"
Answers = Callable[[F32, int], Any]  # query, ef -> rows, the best first


def hnswlib_build(folder: Path, vectors: F32, construction: int) -> None:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=M, ef_construction=construction)
    index.add_items(vectors, num_threads=os.cpu_count())
    index.save_index(str(folder / "index"))


def hnswlib_open(folder: Path, dim: int) -> Answers:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=dim)
    index.load_index(str(folder / "index"))
    index.set_num_threads(1)

    def answer(query: F32, ef: int) -> Any:
        index.set_ef(ef)
        return index.knn_query(query, k=K)[0][0]

    return answer


def faiss_build(kind: str) -> Callable[[Path, F32, int], None]:
    def build(folder: Path, vectors: F32, construction: int) -> None:
        import faiss

        dim = vectors.shape[1]
        if kind == "flat":
            index = faiss.IndexHNSWFlat(dim, M, faiss.METRIC_INNER_PRODUCT)
        else:
            quantizer = {"sq8": faiss.ScalarQuantizer.QT_8bit, "fp16": faiss.ScalarQuantizer.QT_fp16}[kind]
            index = faiss.IndexHNSWSQ(dim, quantizer, M, faiss.METRIC_INNER_PRODUCT)
            index.train(vectors[:: max(1, len(vectors) // 50_000)])
        index.hnsw.efConstruction = construction
        index.add(vectors)
        faiss.write_index(index, str(folder / "index"))

    return build


def faiss_open(folder: Path, dim: int) -> Answers:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / "index"), faiss.IO_FLAG_MMAP_IFC)

    def answer(query: F32, ef: int) -> Any:
        wanted = K if (folder / VECTORS).stat().st_size == 0 else K * RESCORED
        return index.search(query[None], wanted, params=faiss.SearchParametersHNSW(efSearch=ef))[1][0]

    return answer


def usearch_build(dtype: str) -> Callable[[Path, F32, int], None]:
    def build(folder: Path, vectors: F32, construction: int) -> None:
        from usearch.index import Index

        index = Index(ndim=vectors.shape[1], metric="ip", dtype=dtype, connectivity=M, expansion_add=construction)
        index.add(np.arange(len(vectors)), vectors, threads=os.cpu_count() or 1)
        index.save(str(folder / "index"))

    return build


def usearch_open(folder: Path, dim: int) -> Answers:
    from usearch.index import Index

    index: Any = Index.restore(str(folder / "index"), view=True)
    rescored = (folder / VECTORS).stat().st_size > 0

    def answer(query: F32, ef: int) -> Any:
        index.expansion_search = ef
        return index.search(query, K * RESCORED if rescored else K, threads=1).keys

    return answer


def zvec_build(folder: Path, vectors: F32, construction: int) -> None:
    import zvec

    schema = zvec.CollectionSchema(
        name="vectors",
        vectors=zvec.VectorSchema(
            "v",
            zvec.DataType.VECTOR_FP32,
            vectors.shape[1],
            index_param=zvec.HnswIndexParam(metric_type=zvec.MetricType.IP, m=M, ef_construction=construction),
        ),
    )
    collection = zvec.create_and_open(path=str(folder / "index"), schema=schema)
    for start in range(0, len(vectors), 1000):
        rows = range(start, min(start + 1000, len(vectors)))
        collection.insert([zvec.Doc(id=str(row), vectors={"v": vectors[row]}) for row in rows])
    collection.optimize()


def zvec_open(folder: Path, dim: int) -> Answers:
    import zvec

    collection = zvec.open(str(folder / "index"), option=zvec.CollectionOption(read_only=True, enable_mmap=True))

    def answer(query: F32, ef: int) -> Any:
        asked = zvec.VectorQuery("v", vector=query, param=zvec.HnswQueryParam(ef=ef))
        return [int(found.id) for found in collection.query(asked, topk=K)]

    return answer


class Engine:
    """``vectors_file``: the vectors lie beside the graph as well; ``mapped``: the graph is a mapped file."""

    def __init__(self, build: Any, open_: Any, *, vectors_file: bool, mapped: bool) -> None:
        self.build, self.open, self.vectors_file, self.mapped = build, open_, vectors_file, mapped


ENGINES = {
    "hnswlib": Engine(hnswlib_build, hnswlib_open, vectors_file=True, mapped=False),
    "hnswlib-alone": Engine(hnswlib_build, hnswlib_open, vectors_file=False, mapped=False),
    "faiss-flat": Engine(faiss_build("flat"), faiss_open, vectors_file=False, mapped=True),
    "faiss-fp16": Engine(faiss_build("fp16"), faiss_open, vectors_file=True, mapped=True),
    "faiss-sq8": Engine(faiss_build("sq8"), faiss_open, vectors_file=True, mapped=True),
    "usearch-f32": Engine(usearch_build("f32"), usearch_open, vectors_file=False, mapped=True),
    "usearch-f16": Engine(usearch_build("f16"), usearch_open, vectors_file=True, mapped=True),
    "usearch-i8": Engine(usearch_build("i8"), usearch_open, vectors_file=True, mapped=True),
    "zvec": Engine(zvec_build, zvec_open, vectors_file=False, mapped=True),
}


def _private_bytes() -> int:
    """Memory that no file backs; mapped pages are counted by the sizes of the files."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("this system does not say how much memory is anonymous")


def child(name: str, folder: Path, dim: int) -> None:
    """Opens and measures; prints its figures, then holds the files open until its standard input closes."""
    engine = ENGINES[name]
    queries = np.load(folder / "queries.npy")
    truth = np.load(folder / "truth.npy")
    vectors = None
    for module in ("hnswlib", "faiss", "usearch.index", "zvec"):
        if module.partition(".")[0] == name.partition("-")[0]:
            __import__(module)
    before = _private_bytes()
    if engine.vectors_file:
        vectors = np.memmap(folder / VECTORS, "<f4", "r").reshape(-1, dim)
    start = time.perf_counter()
    answer = engine.open(folder, dim)
    opened_s = time.perf_counter() - start
    figures: dict[str, Any] = {"open_s": opened_s, "by_ef": []}
    for ef in EFS:
        times, found = [], 0
        for query, best in zip(queries, truth, strict=True):
            start = time.perf_counter()
            rows = np.asarray(answer(query, ef)).astype(np.int64)
            if vectors is not None:
                rows = rows[rows >= 0]
                rows = rows[np.argsort(-np.vecdot(vectors[rows], query))[:K]]
            times.append(time.perf_counter() - start)
            found += len(np.intersect1d(rows, best))
        p50, p99 = np.percentile(times, (50, 99)) * 1e3
        recall = found / truth.size
        figures["by_ef"].append({"ef": ef, "recall": round(recall, 4), "p50_ms": p50, "p99_ms": p99})
        if recall >= ENOUGH:
            break
    figures["private_bytes"] = _private_bytes() - before
    print(json.dumps(figures), flush=True)
    sys.stdin.read()


def measure(name: str, vectors: F32, queries: F32, truth: Any, construction: int) -> dict[str, Any]:
    engine = ENGINES[name]
    count, dim = vectors.shape
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "truth.npy", truth)
        (folder / VECTORS).touch()
        if engine.vectors_file:
            vectors.tofile(folder / VECTORS)
        cpu, start = os.times(), time.perf_counter()
        engine.build(folder, vectors, construction)
        built_s, after = time.perf_counter() - start, os.times()
        graph = folder / "index"
        size = sum(f.stat().st_size for f in (graph.rglob("*") if graph.is_dir() else [graph]) if f.is_file())
        command = [sys.executable, "-m", __spec__.name, "--child", name, "--folder", home, "--dim", str(dim)]
        children, said = [], []
        for _ in range(2):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            children.append(process)
            said.append(json.loads(process.stdout.readline()))
        for process in children:
            process.communicate()
    mapped = (size if engine.mapped else 0) + (vectors.nbytes if engine.vectors_file else 0)
    last = said[0]["by_ef"][-1]
    return {
        "engine": name,
        "build_s": built_s,
        "build_cpu_s": after.user + after.system - cpu.user - cpu.system,
        "open_s": said[0]["open_s"],
        "bytes_one": (mapped + max(0, said[0]["private_bytes"])) / count,
        "bytes_second": max(0, said[1]["private_bytes"]) / count,
        **last,
        "by_ef": said[0]["by_ef"],
    }


def page(rows: list[dict[str, Any]], count: int, dim: int, construction: int) -> str:
    times = ("p50 ms", "p99 ms", "build s (CPU s)")
    head = ("engine", "bytes per vector", "a second process adds", "recall", "ef", *times)
    lines = [
        f"# Graph engines, {count:,} vectors of {dim} numbers",
        "",
        f"M {M}, construction {construction}; recall at {K} against exact search over {QUERIES} queries, at the first "
        f"ef of {', '.join(map(str, EFS))} that reaches {ENOUGH:.0%}. One thread answers, all cores build. "
        "hnswlib-alone has no vectors file; what is quantised is scored again from one. CPU seconds are of all cores.",
        "",
        f"| {' | '.join(head)} | open s |",
        "|---" * (len(head) + 1) + "|",
    ]
    for row in rows:
        cells = (
            row["engine"],
            f"{row['bytes_one']:,.0f}",
            f"{row['bytes_second']:,.0f}",
            f"{row['recall']:.3f}",
            row["ef"],
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['build_s']:.0f} ({row['build_cpu_s']:.0f})",
            f"{row['open_s']:.2f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--construction", type=int, default=100)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder, arguments.dim)
        return
    vectors = embeddings(arguments.count, arguments.dim, 2)
    queries = embeddings(QUERIES, arguments.dim, 4)
    labels = np.arange(len(vectors))
    truth = np.array([exact_search(vectors, labels, query, K)[0] for query in queries])
    rows = []
    for name in arguments.engines.split(","):
        rows.append(measure(name, vectors, queries, truth, arguments.construction))
        print(json.dumps(rows[-1]), flush=True)
    figures = {"count": arguments.count, "dim": arguments.dim, "construction": arguments.construction, "rows": rows}
    text = page(rows, arguments.count, arguments.dim, arguments.construction)
    results.write(arguments.results, f"index-engines-{arguments.count}", figures, text)


if __name__ == "__main__":
    main()
