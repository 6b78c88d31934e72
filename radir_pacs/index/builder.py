"""Building a generation: written beside its place, checked in a child process, then published by one rename (P4)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from radir_pacs import durable
from radir_pacs.errors import StorageFailed
from radir_pacs.index.generation import generation_names, generation_number, open_verified
from radir_pacs.index.hnsw import HNSWLIB_VERSION, METRIC, Graph
from radir_pacs.index.manifest import GRAPH, LABELS, MANIFEST, VECTORS, FileRecord, GenerationManifest, GraphRecord
from radir_pacs.index.verify import verify_in_child
from radir_pacs.types import F32, I64

BUILDING_PREFIX = ".building-"
UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """How graphs are built (docs/results/index-search.md shows what these were chosen from)."""

    from_count: int = 20_000  # fewer vectors: exact search is faster
    m: int = 16
    ef_construction: int = 200
    threads: int = 1
    least_recall: float = 0.95  # a graph that finds less is left out; exact search then answers


DEFAULT_GRAPH = GraphSettings()


def build(
    folder: Path,
    *,
    model_id: str,
    region: str,
    labels: I64,
    vectors: F32,
    built_at: datetime,
    graph: GraphSettings = DEFAULT_GRAPH,
) -> GenerationManifest:
    """Publish the next generation in the partition's ``folder`` and return its manifest.

    labels: int64 [n], ascending; vectors: float32 [n, dim], unit rows; n may be 0 (everything was deleted).
    Raises ValueError for vectors that cannot be searched (NaN, zero, not unit), StorageFailed when the disk refuses,
    IndexRefused when what was written does not pass its check. After an error nothing is visible.
    """
    check_vectors(labels, vectors)
    try:
        _make_folder(folder)
        with _scratch(folder) as scratch:
            manifest = _write(scratch, folder, model_id, region, labels, vectors, built_at, graph)
            scratch.rename(folder / manifest.name)
        durable.sync(folder)
    except OSError as error:
        raise StorageFailed(f"cannot write the index of {region}: {error.strerror or error}") from error
    return manifest


def check_vectors(labels: I64, vectors: F32) -> None:
    """Raises ValueError unless labels ascend and each has one finite unit vector."""
    if vectors.ndim != 2 or vectors.dtype != np.float32 or labels.dtype != np.int64:
        raise ValueError("labels are int64 [n], vectors float32 [n, dim]")
    if labels.shape != (len(vectors),) or np.any(labels[1:] <= labels[:-1]):
        raise ValueError("there is one ascending label a vector")
    if not np.all(np.abs(np.sqrt(np.vecdot(vectors, vectors)) - 1) < UNIT_TOLERANCE):  # NaN compares false
        raise ValueError("every vector must be finite and of unit length")


def _write(
    scratch: Path,
    folder: Path,
    model_id: str,
    region: str,
    labels: I64,
    vectors: F32,
    built_at: datetime,
    settings: GraphSettings,
) -> GenerationManifest:
    """Every file of the generation into ``scratch``, durable and checked."""
    files = {
        VECTORS: _write_file(scratch / VECTORS, _bytes(vectors, "<f4")),
        LABELS: _write_file(scratch / LABELS, _bytes(labels, "<i8")),
    }
    record = None
    if len(vectors) >= max(1, settings.from_count):
        files[GRAPH] = _write_graph(scratch / GRAPH, vectors, settings)
        record = GraphRecord(
            library="hnswlib", library_version=HNSWLIB_VERSION, m=settings.m, ef_construction=settings.ef_construction
        )
    names = generation_names(folder)
    manifest = GenerationManifest(
        number=generation_number(names[-1])[0] + 1 if names else 1,
        model_id=model_id,
        region=region,
        dim=vectors.shape[1],
        count=len(vectors),
        metric=METRIC,
        built_at=built_at,
        files=files,
        graph=record,
    )
    _write_file(scratch / MANIFEST, manifest.to_bytes())
    if record is None:
        open_verified(scratch, manifest)  # read back; without a graph no native code reads it
    else:
        manifest = _judge(scratch, manifest, record, verify_in_child(scratch), settings)
        _write_file(scratch / MANIFEST, manifest.to_bytes())
    durable.sync(scratch)
    return manifest


def _judge(
    scratch: Path, manifest: GenerationManifest, record: GraphRecord, recall: float, settings: GraphSettings
) -> GenerationManifest:
    """Keep the graph with its measured recall, or leave it out: exact search is slower and never wrong."""
    if recall >= settings.least_recall:
        return replace(manifest, graph=replace(record, recall=round(recall, 4)))
    (scratch / GRAPH).unlink()
    files = {name: file for name, file in manifest.files.items() if name != GRAPH}
    return replace(manifest, graph=None, files=files)


def _write_graph(path: Path, vectors: F32, settings: GraphSettings) -> FileRecord:
    built = Graph.build(vectors, m=settings.m, ef_construction=settings.ef_construction, threads=settings.threads)
    expected_bytes = built.save(path)
    durable.sync(path)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != expected_bytes:  # hnswlib ignores failed writes
            raise OSError("the graph was cut short, as on a full disk")
        return FileRecord(size_bytes=expected_bytes, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _write_file(path: Path, data: bytes | memoryview) -> FileRecord:
    path.write_bytes(data)
    durable.sync(path)
    return FileRecord(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _bytes(numbers: F32 | I64, dtype: str) -> memoryview:
    """The numbers in C order, not copied where they lie so already."""
    return np.ascontiguousarray(numbers, dtype).reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder beside the generations, gone unless renamed. Its lock tells `collect` that its builder lives."""
    scratch = Path(tempfile.mkdtemp(prefix=BUILDING_PREFIX, dir=folder))
    lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        scratch.chmod(0o755)  # mkdtemp makes it private; web and worker may be different users
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _make_folder(folder: Path) -> None:
    """Like mkdir -p, each new entry durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    durable.sync(folder.parent)
