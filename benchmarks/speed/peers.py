"""The same vectors in other libraries: numpy, hnswlib, faiss and pgvector, each as its users call it, in one process.

None of them keeps attributes, rights or deletions, nor answers over HTTP: their time is a lower bound for ours.
Each takes the graph that we build (M 16, ef_construction 200) and searches it as widely (ef 128); a filter is
given as a mask, to pgvector as a condition. What was built is kept in a folder and not built again.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks.speed.hospital import DIM, Hospital
from radir_pacs.types import F32

K, M, EF_CONSTRUCTION, EF_SEARCH = 10, 16, 200, 128
_CONDITIONS = {
    "all": "true",
    "sex": "sex = 0",
    "modality": "modality = 1",
    "day": "day = {day}",
    "finding": "report = 0",
}
_DATABASE = "peers"  # beside the catalogue, in the same server


@dataclass(kw_only=True)
class Built:
    """How long the build took, s, and what it takes, bytes per vector."""

    build_s: float
    bytes_a_vector: float


class Peer(Protocol):
    """``narrow`` sets the filter of the searches that follow (None: all); ``search``: labels of the K best of them."""

    built: Built

    def narrow(self, question: str, mask: np.ndarray | None, day: int) -> None: ...

    def search(self, query: F32, k: int) -> Any: ...


class Numpy:
    """Exact: one product with all vectors that pass."""

    def __init__(self, hospital: Hospital, folder: Path, conninfo: str) -> None:
        self._all, self._labels = hospital.vectors, np.arange(hospital.count)
        self.built = Built(build_s=0.0, bytes_a_vector=4.0 * DIM)
        self.narrow("all", None, 0)

    def narrow(self, question: str, mask: np.ndarray | None, day: int) -> None:
        self._rows = None if mask is None else np.flatnonzero(mask)
        self._vectors = self._all if self._rows is None else self._all[self._rows]

    def search(self, query: F32, k: int) -> Any:
        scores = self._vectors @ query
        best = np.argpartition(scores, len(scores) - k)[-k:]
        return best if self._rows is None else self._rows[best]


class Hnswlib:
    def __init__(self, hospital: Hospital, folder: Path, conninfo: str) -> None:
        self._index = importlib.import_module("hnswlib").Index("ip", DIM)
        path = folder / "hnswlib.bin"

        def build() -> float:
            self._index.init_index(hospital.count, M=M, ef_construction=EF_CONSTRUCTION)
            self._index.add_items(hospital.vectors, num_threads=os.cpu_count())
            self._index.save_index(str(path))
            return path.stat().st_size / hospital.count

        is_kept = path.exists()
        self.built = _once(folder / "hnswlib.json", build)
        if is_kept:
            self._index.load_index(str(path))
        self._index.set_ef(EF_SEARCH)
        self._mask: np.ndarray | None = None

    def narrow(self, question: str, mask: np.ndarray | None, day: int) -> None:
        self._mask = mask

    def search(self, query: F32, k: int) -> Any:
        mask = self._mask
        let_through: Callable[[int], bool] | None = None if mask is None else (lambda label: bool(mask[label]))
        return self._index.knn_query(query[None], k, num_threads=1, filter=let_through)[0][0]


class Faiss:
    def __init__(self, hospital: Hospital, folder: Path, conninfo: str) -> None:
        self._faiss = importlib.import_module("faiss")
        path = folder / "faiss.bin"
        index: list[Any] = []

        def build() -> float:
            self._faiss.omp_set_num_threads(os.cpu_count())
            made = self._faiss.IndexHNSWFlat(DIM, M, self._faiss.METRIC_INNER_PRODUCT)
            made.hnsw.efConstruction = EF_CONSTRUCTION
            made.add(hospital.vectors)
            self._faiss.write_index(made, str(path))
            index.append(made)
            return path.stat().st_size / hospital.count

        self.built = _once(folder / "faiss.json", build)
        self._index = index[0] if index else self._faiss.read_index(str(path))
        self._faiss.omp_set_num_threads(1)
        self.narrow("all", None, 0)

    def narrow(self, question: str, mask: np.ndarray | None, day: int) -> None:
        chosen = {}
        if mask is not None:
            self._bits = np.packbits(mask, bitorder="little")  # kept: faiss holds a pointer to it
            chosen = {"sel": self._faiss.IDSelectorBitmap(self._bits)}
        self._parameters = self._faiss.SearchParametersHNSW(efSearch=EF_SEARCH, **chosen)

    def search(self, query: F32, k: int) -> Any:
        return self._index.search(query[None], k, params=self._parameters)[1][0]


class Pgvector:
    """In a database of its own in the embedded Postgres; one prepared statement a search, over the Unix socket."""

    def __init__(self, hospital: Hospital, folder: Path, conninfo: str) -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
                (folder / "pgvector.json").unlink(missing_ok=True)
        self._connection = psycopg.connect(make_conninfo(conninfo, dbname=_DATABASE), autocommit=True)
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.built = _once(folder / "pgvector.json", lambda: self._build(hospital))
        self._connection.execute(f"SET hnsw.ef_search = {EF_SEARCH}".encode())
        self._connection.execute("SET hnsw.iterative_scan = strict_order")  # else a filter leaves fewer than K
        self.narrow("all", None, 0)

    def _build(self, hospital: Hospital) -> float:
        names = ("sex", "modality", "day", "report")
        of = hospital.attributes
        run = self._connection.execute
        run("DROP TABLE IF EXISTS peer")
        run(f"CREATE TABLE peer (id integer, v vector({DIM}), sex int, modality int, day int, report int)".encode())
        with self._connection.cursor().copy("COPY peer FROM STDIN (FORMAT binary)") as copy:
            copy.write(_peer_rows(hospital, [of[name] for name in names]))
        run("SET maintenance_work_mem = '2GB'")
        workers = max(0, (os.cpu_count() or 1) - 1)
        run(f"SET max_parallel_maintenance_workers = {workers}".encode())
        options = f"m = {M}, ef_construction = {EF_CONSTRUCTION}"
        run(f"CREATE INDEX ON peer USING hnsw (v vector_ip_ops) WITH ({options})".encode())
        for name in ("day", "report"):
            run(f"CREATE INDEX ON peer ({name})".encode())
        run("ANALYZE peer")
        size = run("SELECT pg_total_relation_size('peer')").fetchone()
        return float(size[0]) / hospital.count if size else 0.0

    def narrow(self, question: str, mask: np.ndarray | None, day: int) -> None:
        condition = _CONDITIONS[question].format(day=day)
        self._statement = f"SELECT id FROM peer WHERE {condition} ORDER BY v <#> %s::vector LIMIT %s".encode()

    def search(self, query: F32, k: int) -> Any:
        text = "[" + ",".join(map(str, query.tolist())) + "]"
        return [row[0] for row in self._connection.execute(self._statement, [text, k], prepare=True)]


def _peer_rows(hospital: Hospital, columns: list[np.ndarray]) -> bytes:
    """COPY's binary form; pgvector sends a vector as two int16 (dimensions, 0) and its float32 numbers."""
    layout: list[Any] = [
        ("columns", ">i2"),
        ("l0", ">i4"),
        ("id", ">i4"),
        ("l1", ">i4"),
        ("dim", ">i2"),
        ("zero", ">i2"),
    ]
    layout.append(("v", ">f4", (DIM,)))
    for number in range(len(columns)):
        layout += [(f"m{number}", ">i4"), (f"c{number}", ">i4")]
    rows = np.zeros(hospital.count, layout)
    rows["columns"], rows["l0"], rows["id"] = 2 + len(columns), 4, np.arange(hospital.count)
    rows["l1"], rows["dim"], rows["v"] = 4 + 4 * DIM, DIM, hospital.vectors
    for number, values in enumerate(columns):
        rows[f"m{number}"], rows[f"c{number}"] = 4, values
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"


def _once(record: Path, build: Callable[[], float]) -> Built:
    """Build unless ``record`` says that it was done; ``build`` returns bytes per vector."""
    if record.exists():
        return Built(**json.loads(record.read_text()))
    record.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    bytes_a_vector = build()
    built = Built(build_s=time.perf_counter() - began, bytes_a_vector=bytes_a_vector)
    record.write_text(json.dumps(vars(built)))
    return built


PEERS: dict[str, Callable[[Hospital, Path, str], Peer]] = {
    "numpy exact": Numpy,
    "hnswlib": Hnswlib,
    "faiss": Faiss,
    "pgvector": Pgvector,
}


def check_installed(names: Sequence[str]) -> None:
    """Before hours of filling: raises SystemExit for a name that is no peer, or one that is not installed."""
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"error: {name} is none of {', '.join(PEERS)}")
        if name in ("hnswlib", "faiss") and importlib.util.find_spec(name) is None:
            raise SystemExit(
                f"error: {name} is missing: pip install -e '.[benchmark]' (hnswlib needs a C++ compiler),"
                " or name the other peers by --peers"
            )
