"""Building: a segment, then a generation that lists it. Each is written beside its place, checked, then published by
one rename (P4); a segment with a graph is checked in a child process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radir_pacs import durable, metrics
from radir_pacs.errors import StorageFailed
from radir_pacs.index.files import check_folder
from radir_pacs.index.generation import SEGMENTS, generation_names, generation_number, map_segment
from radir_pacs.index.graph import LIBRARY, LIBRARY_VERSION, METRIC, Graph
from radir_pacs.index.label_set import NO_LABELS
from radir_pacs.index.manifest import (
    DELETED,
    GRAPH,
    LABELS,
    MANIFEST,
    VECTORS,
    FileRecord,
    GenerationManifest,
    GraphRecord,
    SegmentManifest,
    SegmentRecord,
)
from radir_pacs.index.verify import verify_in_child
from radir_pacs.types import F32, I64

BUILDING_PREFIX = ".building-"
UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """How graphs are built (docs/results/index-engines-1000000.md shows what these give)."""

    from_count: int = 20_000  # fewer vectors: exact search is faster
    m: int = 16
    ef_construction: int = 64
    threads: int = 1
    least_recall: float = 0.95  # a graph that finds less is left out; exact search then answers


DEFAULT_GRAPH = GraphSettings()


def build_segment(
    folder: Path,
    *,
    model_id: str,
    region: str,
    labels: I64,
    vectors: F32,
    built_at: datetime,
    graph: GraphSettings = DEFAULT_GRAPH,
) -> SegmentManifest:
    """Write a segment into the partition's ``folder`` and return its manifest; no generation lists it yet.

    labels: int64 [n], ascending; vectors: float32 [n, dim], unit rows; n may be 0.
    Raises ValueError for vectors that cannot be searched (NaN, zero, not unit), StorageFailed when the disk refuses,
    IndexRefused when what was written does not pass its check. After an error nothing is visible.
    """
    check_vectors(labels, vectors)
    with _storage_errors(region):
        _make_folder(folder / SEGMENTS)
        with _scratch(folder) as scratch:
            manifest = _write_segment(scratch, model_id, region, labels, vectors, built_at, graph)
            scratch.rename(folder / SEGMENTS / manifest.name)
        durable.sync(folder / SEGMENTS)
    return manifest


def publish(
    folder: Path,
    *,
    model_id: str,
    region: str,
    dim: int,
    segments: Sequence[SegmentRecord],
    deleted: I64,
    built_at: datetime,
    oldest_deletion: str | None = None,
) -> GenerationManifest:
    """Publish the next generation of the partition: ``segments`` that stand, without ``deleted`` (ascending labels)."""
    with _storage_errors(region):
        _make_folder(folder)
        with _scratch(folder) as scratch:
            names = generation_names(folder)
            manifest = GenerationManifest(
                number=generation_number(names[-1])[0] + 1 if names else 1,
                model_id=model_id,
                region=region,
                dim=dim,
                built_at=built_at,
                files={DELETED: _write_file(scratch / DELETED, _bytes(deleted, "<i8"))},
                segments=tuple(segments),
                oldest_deletion=oldest_deletion if len(deleted) else None,
            )
            _write_file(scratch / MANIFEST, manifest.to_bytes())
            durable.sync(scratch)
            scratch.rename(folder / manifest.name)
        durable.sync(folder)
    return manifest


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
    """Publish the next generation, of one segment; as `build_segment`."""
    segment = build_segment(
        folder, model_id=model_id, region=region, labels=labels, vectors=vectors, built_at=built_at, graph=graph
    )
    return publish(
        folder,
        model_id=model_id,
        region=region,
        dim=vectors.shape[1],
        segments=[SegmentRecord(name=segment.name, count=segment.count, deleted=0)],
        deleted=NO_LABELS,
        built_at=built_at,
    )


def check_vectors(labels: I64, vectors: F32) -> None:
    """Raises ValueError unless labels ascend and each has one finite unit vector."""
    if vectors.ndim != 2 or vectors.dtype != np.float32 or labels.dtype != np.int64:
        raise ValueError("labels are int64 [n], vectors float32 [n, dim]")
    if labels.shape != (len(vectors),) or np.any(labels[1:] <= labels[:-1]):
        raise ValueError("there is one ascending label a vector")
    if not np.all(np.abs(np.sqrt(np.vecdot(vectors, vectors)) - 1) < UNIT_TOLERANCE):  # NaN compares false
        raise ValueError("every vector must be finite and of unit length")


def _write_segment(
    scratch: Path,
    model_id: str,
    region: str,
    labels: I64,
    vectors: F32,
    built_at: datetime,
    settings: GraphSettings,
) -> SegmentManifest:
    """Every file of the segment into ``scratch``, durable and checked."""
    files = {
        VECTORS: _write_file(scratch / VECTORS, _bytes(vectors, "<f4")),
        LABELS: _write_file(scratch / LABELS, _bytes(labels, "<i8")),
    }
    record = None
    if len(vectors) >= max(1, settings.from_count):
        built = Graph.build(vectors, m=settings.m, ef_construction=settings.ef_construction, threads=settings.threads)
        files[GRAPH] = _write_file(scratch / GRAPH, built.to_bytes().data)
        del built
        record = GraphRecord(
            library=LIBRARY, library_version=LIBRARY_VERSION, m=settings.m, ef_construction=settings.ef_construction
        )
    manifest = SegmentManifest(
        model_id=model_id,
        region=region,
        dim=vectors.shape[1],
        build=secrets.token_hex(8),
        count=len(vectors),
        metric=METRIC,
        built_at=built_at,
        files=files,
        graph=record,
    )
    _write_file(scratch / MANIFEST, manifest.to_bytes())
    if record is None:
        check_folder(scratch, manifest.files)
        map_segment(scratch, manifest)  # read back; without a graph no native code reads it
    else:
        manifest = _judge(scratch, manifest, record, verify_in_child(scratch), settings)
        _write_file(scratch / MANIFEST, manifest.to_bytes())
    durable.sync(scratch)
    return manifest


def _judge(
    scratch: Path, manifest: SegmentManifest, record: GraphRecord, recall: float, settings: GraphSettings
) -> SegmentManifest:
    """Keep the graph with its measured recall, or leave it out: exact search is slower and never wrong."""
    metrics.INDEX_RECALL.labels(manifest.model_id, manifest.region).set(recall)
    if recall >= settings.least_recall:
        return replace(manifest, graph=replace(record, recall=round(recall, 4)))
    (scratch / GRAPH).unlink()
    files = {name: file for name, file in manifest.files.items() if name != GRAPH}
    return replace(manifest, graph=None, files=files)


def _write_file(path: Path, data: bytes | memoryview) -> FileRecord:
    path.write_bytes(data)
    durable.sync(path)
    return FileRecord(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _bytes(numbers: npt.NDArray[np.generic], dtype: str) -> memoryview:
    """The numbers in C order, not copied where they lie so already."""
    return np.ascontiguousarray(numbers, dtype).reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def _storage_errors(region: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"cannot write the index of {region}: {error.strerror or error}") from error


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder beside the generations, gone unless renamed. Its lock tells `remove_unused` that it is in use."""
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
