"""Opening a generation: every file was checked before any of it is used, and before native code sees a graph (P4).

On the disk, in the folder of a partition:
    00000007-3f0c6a2be1d4/    a generation: manifest.json lists its segments, deleted.i64 what is gone from them
    segments/9d1e4c70b8a25f36/    a segment, of one generation or of many: vectors, labels, perhaps a graph
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radir_pacs.errors import IndexRefused, SegmentAltered
from radir_pacs.index.files import check_file, check_folder, map_file, open_checked, read_manifest_file, regular_file
from radir_pacs.index.graph import LIBRARY, METRIC, Graph
from radir_pacs.index.label_set import NO_LABELS, LabelSet, contains
from radir_pacs.index.manifest import DELETED, GRAPH, LABELS, VECTORS, GenerationManifest, SegmentManifest
from radir_pacs.index.part import Part, SegmentPart
from radir_pacs.index.segment import Segment
from radir_pacs.types import F32, I64

SEGMENTS = "segments"
GENERATION_NAME = re.compile(r"[0-9]{8,}-[0-9a-f]{12}")
SEGMENT_NAME = re.compile(r"[0-9a-f]{16}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """An open, checked generation. Nothing in it changes; readers share it freely.

    deleted: labels of the segments that were gone when it was built, ascending.
    """

    manifest: GenerationManifest
    segments: tuple[Segment, ...]
    deleted: I64

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def place(self) -> tuple[str, str, int]:
        return self.manifest.model_id, self.manifest.region, self.manifest.dim

    def parts(self, deleted: LabelSet) -> tuple[Part, ...]:
        return tuple(SegmentPart(segment=segment, dead=deleted.among(segment.labels)) for segment in self.segments)


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


def open_generation(
    folder: Path, *, model_id: str, region: str, dim: int, reuse: Generation | None = None
) -> Generation:
    """Check, then open. Raises IndexRefused for anything incomplete, altered, or of another model, region or dim.

    reuse: an open generation of the partition, whose segments are not opened again.
    """
    manifest = read_generation(folder, model_id=model_id, region=region, dim=dim)
    check_file(folder / DELETED, manifest.files[DELETED])
    with regular_file(folder / DELETED) as file:
        deleted = np.frombuffer(file.read(), "<i8")
    if np.any(deleted[1:] <= deleted[:-1]):
        raise IndexRefused("the deleted labels of the index generation are not ascending")
    opened: Mapping[str, Segment] = {segment.name: segment for segment in reuse.segments} if reuse else {}
    segments = []
    for record in manifest.segments:
        segment = opened.get(record.name)
        if segment is None:
            where = segment_folder(folder.parent, record.name)
            segment = open_segment(where, model_id=model_id, region=region, dim=dim)
        if len(segment) != record.count or np.count_nonzero(contains(segment.labels, deleted)) != record.deleted:
            raise IndexRefused("a segment of the index generation has other labels")
        segments.append(segment)
    return Generation(manifest=manifest, segments=tuple(segments), deleted=deleted if len(deleted) else NO_LABELS)


def read_generation(folder: Path, *, model_id: str, region: str, dim: int) -> GenerationManifest:
    """A generation's manifest, its seal, name and partition checked. Raises IndexRefused."""
    manifest = GenerationManifest.from_bytes(read_manifest_file(folder))
    if folder.name != manifest.name:
        raise IndexRefused("the index generation has the name of another")
    _check_partition(manifest, model_id, region, dim)
    return manifest


def segment_folder(partition: Path, name: str) -> Path:
    """Raises IndexRefused for what is no segment's name."""
    if not SEGMENT_NAME.fullmatch(name):
        raise IndexRefused("the index generation names a segment that cannot be one")
    return partition / SEGMENTS / name


def open_segment(folder: Path, *, model_id: str, region: str, dim: int) -> Segment:
    """Check, then map its files. Raises IndexRefused as `open_generation` does."""
    manifest = SegmentManifest.from_bytes(read_manifest_file(folder))
    if folder.name != manifest.name:
        raise IndexRefused("the index segment has the name of another")
    _check_partition(manifest, model_id, region, dim)
    open_checked(folder, manifest.files)
    return map_segment(folder, manifest)


def map_segment(folder: Path, manifest: SegmentManifest) -> Segment:
    """Map the files of a segment, which the caller has checked. Raises IndexRefused."""
    if manifest.metric != METRIC:
        raise IndexRefused(f"the index segment has the metric {manifest.metric!r}")
    if manifest.graph and manifest.graph.library != LIBRARY:
        raise IndexRefused(f"the graph was written by {manifest.graph.library}")
    labels: I64 = map_file(folder / LABELS, "<i8", (manifest.count,))
    if np.any(labels[1:] <= labels[:-1]):
        raise IndexRefused("the labels of the index segment are not ascending")
    vectors: F32 = map_file(folder / VECTORS, "<f4", (manifest.count, manifest.dim))
    graph = Graph.load(folder / GRAPH, vectors) if manifest.graph else None
    return Segment(labels=labels, vectors=vectors, graph=graph, name=manifest.name)


def check_generation(folder: Path, rest: Callable[[int], None]) -> None:
    """Read every file of an open generation again. Raises IndexRefused when one is not what was built.

    They were checked before they were opened, but bytes that change on the disk later change in every map of them.
    ``rest`` as in `check_file`.
    """
    manifest = GenerationManifest.from_bytes(read_manifest_file(folder))
    check_file(folder / DELETED, manifest.files[DELETED], rest)
    for record in manifest.segments:
        where = segment_folder(folder.parent, record.name)
        check_folder(where, SegmentManifest.from_bytes(read_manifest_file(where)).files, rest)


def check_segment(partition: Path, name: str) -> None:
    """Read every file of a segment again, before its bytes go into another. Raises SegmentAltered."""
    where = segment_folder(partition, name)
    try:
        check_folder(where, SegmentManifest.from_bytes(read_manifest_file(where)).files)
    except IndexRefused as refusal:
        raise SegmentAltered(str(refusal)) from refusal


def _check_partition(manifest: GenerationManifest | SegmentManifest, model_id: str, region: str, dim: int) -> None:
    if (manifest.model_id, manifest.region, manifest.dim) != (model_id, region, dim):
        raise IndexRefused("the index belongs to another model, region or dimension")
