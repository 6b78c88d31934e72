"""Opening a generation: every byte is checked before any of it is used, and before native code sees the graph (P4)."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from radir_pacs.errors import IndexRefused
from radir_pacs.index.hnsw import HNSWLIB_VERSION, METRIC, Graph
from radir_pacs.index.label_set import NO_LABELS
from radir_pacs.index.manifest import GRAPH, LABELS, MANIFEST, MANIFEST_MAX_BYTES, VECTORS, GenerationManifest
from radir_pacs.index.segment import Segment
from radir_pacs.types import F32, I64

log = logging.getLogger(__name__)

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHUNK_BYTES = 4 << 20
GENERATION_NAME = re.compile(r"[0-9]{8,}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """An open, verified generation. Nothing in it changes; readers share it freely.

    labels: int64 [count], ascending. vectors: float32 [count, dim], mapped from the file, read-only.
    """

    manifest: GenerationManifest
    labels: I64
    vectors: F32
    graph: Graph | None

    @property
    def name(self) -> str:
        return self.manifest.name

    @functools.cached_property
    def segments(self) -> tuple[Segment, ...]:
        return (Segment(labels=self.labels, vectors=self.vectors, graph=self.graph),)

    @property
    def deleted(self) -> I64:
        """Labels of the segments that were deleted before the generation was published, ascending."""
        return NO_LABELS


def partition_folder(home: Path, model_id: str, region: str) -> Path:
    """The folder of a partition's generations. Raises ValueError for names that are not plain file names."""
    for name in (model_id, region):
        if not _PLAIN_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name an index folder")
    return home / "index" / model_id / region


def generation_names(folder: Path) -> list[str]:
    """Names of the published generations, oldest first."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(filter(GENERATION_NAME.fullmatch, names), key=generation_number)


def generation_number(name: str) -> tuple[int, str]:
    """Sort key of a generation's name."""
    number, _, seal = name.partition("-")
    return int(number), seal


def open_generation(folder: Path, *, model_id: str, region: str, dim: int) -> Generation:
    """Verify, then open. Raises IndexRefused for anything incomplete, altered, or of another model, region or dim."""
    manifest = read_manifest(folder)
    if folder.name != manifest.name:
        raise IndexRefused("the index generation has the name of another")
    if (manifest.model_id, manifest.region, manifest.dim) != (model_id, region, dim):
        raise IndexRefused("the index generation belongs to another model, region or dimension")
    return open_verified(folder, manifest)


def read_manifest(folder: Path) -> GenerationManifest:
    """The manifest, its seal checked. Raises IndexRefused."""
    with _regular_file(folder / MANIFEST) as file:
        text = file.read(MANIFEST_MAX_BYTES + 1)
    if len(text) > MANIFEST_MAX_BYTES:
        raise IndexRefused("the manifest of the index generation is too large")
    return GenerationManifest.from_bytes(text)


def open_verified(folder: Path, manifest: GenerationManifest) -> Generation:
    """Check each file against ``manifest``, then map the vectors and load the graph. Raises IndexRefused."""
    if manifest.metric != METRIC:
        raise IndexRefused(f"the index generation has the metric {manifest.metric!r}")
    if manifest.graph and manifest.graph.library_version != HNSWLIB_VERSION:
        raise IndexRefused(f"the graph was written by hnswlib {manifest.graph.library_version}")
    with _checked(folder, manifest, LABELS) as file:
        labels = np.frombuffer(file.read(), "<i8")
    if len(labels) != manifest.count or np.any(labels[1:] <= labels[:-1]):
        raise IndexRefused("the labels of the index generation are not ascending")
    with _checked(folder, manifest, VECTORS) as file:
        vectors = _map(file, manifest)
    graph = None
    if manifest.graph:
        _checked(folder, manifest, GRAPH).close()
        try:
            graph = Graph.load(folder / GRAPH, dim=manifest.dim, count=manifest.count)
        except RuntimeError as error:  # hnswlib's own refusal, or no memory for it
            raise IndexRefused(f"hnswlib cannot load the graph: {error}") from error
        if graph.count != manifest.count:
            raise IndexRefused("the graph holds another number of vectors")
    return Generation(manifest=manifest, labels=labels, vectors=vectors, graph=graph)


def check_vectors_file(folder: Path, manifest: GenerationManifest, rest: Callable[[int], None]) -> None:
    """Read again the vectors that an open generation maps. Raises IndexRefused when they are not what was built.

    They are checked when a generation is opened, but bytes that change on the disk later change in every map of them.
    ``rest`` is called with the number of bytes after each chunk, and may sleep, or raise to end the check.
    """
    expected = manifest.files[VECTORS]
    sha256 = hashlib.sha256()
    with _regular_file(folder / VECTORS) as file:
        try:
            while chunk := file.read(_CHUNK_BYTES):
                sha256.update(chunk)
                rest(len(chunk))
        except OSError as error:
            raise IndexRefused(f"{VECTORS} of the index generation cannot be read: {error.strerror}") from error
    if sha256.hexdigest() != expected.sha256:
        raise IndexRefused(f"{VECTORS} of the index generation was altered")


def _map(file: BufferedReader, manifest: GenerationManifest) -> F32:
    if not manifest.count:  # an empty file cannot be mapped
        return np.empty((0, manifest.dim), np.float32)
    return np.asarray(np.memmap(file, "<f4", "r", shape=(manifest.count, manifest.dim)))


def _checked(folder: Path, manifest: GenerationManifest, name: str) -> BufferedReader:
    """The file, open at its start, its size and hash as the manifest says."""
    file = _regular_file(folder / name)
    try:
        expected = manifest.files[name]
        if os.fstat(file.fileno()).st_size != expected.size_bytes:
            raise IndexRefused(f"{name} of the index generation has another size than when it was built")
        if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
            raise IndexRefused(f"{name} of the index generation was altered")
        file.seek(0)
    except OSError as error:
        file.close()
        raise IndexRefused(f"{name} of the index generation cannot be read: {error.strerror}") from error
    except IndexRefused:
        file.close()
        raise
    return file


def _regular_file(path: Path) -> BufferedReader:
    """Open a regular file for reading: no link is followed, and a pipe or device does not block."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise IndexRefused(f"{path.name} of the index generation cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise IndexRefused(f"{path.name} of the index generation is not a file")
    return os.fdopen(handle, "rb")
