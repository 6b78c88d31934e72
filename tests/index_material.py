"""Vectors and generations that the tests of the index share."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from radir_pacs.errors import IndexRefused
from radir_pacs.index import Allowed, Generation, Partition, Selection, build, open_generation, partition_folder
from radir_pacs.index.builder import GraphSettings
from radir_pacs.index.generation import generation_names, segment_folder
from radir_pacs.index.label_set import NO_LABELS
from radir_pacs.index.manifest import MANIFEST, GenerationManifest
from radir_pacs.index.part import SegmentPart
from radir_pacs.types import F32, I64

MODEL, REGION, DIM = "tiny-1", "heart", 16
BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)
WITH_GRAPH = GraphSettings(from_count=1)
WITHOUT_GRAPH = GraphSettings(from_count=1_000_000)


def unit(vectors: object) -> F32:
    """The rows as float32, each of length 1."""
    rows = np.asarray(vectors, np.float32)
    scaled: F32 = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def random_vectors(count: int, dim: int = DIM, seed: int = 0) -> F32:
    return unit(np.random.default_rng(seed).standard_normal((count, dim)))


def labels_of(count: int) -> I64:
    """Ascending labels with gaps, as encoding ids have."""
    return np.arange(count, dtype=np.int64) * 3 + 7


def publish(
    home: Path,
    vectors: F32,
    *,
    model_id: str = MODEL,
    region: str = REGION,
    graph: GraphSettings = WITH_GRAPH,
) -> Path:
    """Build a generation; returns its folder."""
    folder = partition_folder(home, model_id, region)
    manifest = build(
        folder,
        model_id=model_id,
        region=region,
        labels=labels_of(len(vectors)),
        vectors=vectors,
        built_at=BUILT_AT,
        graph=graph,
    )
    return folder / manifest.name


def segment_of(folder: Path) -> Path:
    """The folder of the one segment that a generation lists."""
    (record,) = GenerationManifest.from_bytes((folder / MANIFEST).read_bytes()).segments
    return segment_folder(folder.parent, record.name)


def opened(folder: Path, *, model_id: str = MODEL, region: str = REGION, dim: int = DIM) -> Generation:
    return open_generation(folder, model_id=model_id, region=region, dim=dim)


def newest(folder: Path, *, model_id: str = MODEL, region: str = REGION, dim: int = DIM) -> Generation | None:
    """The newest generation in a partition's folder that passes every check."""
    for name in reversed(generation_names(folder)):
        with contextlib.suppress(IndexRefused):
            return opened(folder / name, model_id=model_id, region=region, dim=dim)
    return None


class Sizes(NamedTuple):
    """Numbers of vectors in the generation, in the tail, and deleted from the generation."""

    generation: int
    tail: int
    deleted: int

    @property
    def live(self) -> int:
        return self.generation - self.deleted + self.tail


def parts(partition: Partition) -> list[SegmentPart]:
    """Its segments, with what of each is no longer returned."""
    found = [part for part in partition._snapshot.parts if isinstance(part, SegmentPart)]
    assert len(found) == len(partition._snapshot.parts)
    return found


def sizes(partition: Partition) -> Sizes:
    held = sum(len(part.segment) for part in parts(partition))
    return Sizes(held, len(partition._snapshot.tail), sum(len(part.dead) for part in parts(partition)))


def live(partition: Partition) -> tuple[I64, F32]:
    """Every live label, ascending, with its vector."""
    pieces = (partition._snapshot.tail.live(), *(part.live() for part in parts(partition)))
    labels, vectors = map(np.concatenate, zip(*pieces, strict=True))
    order = np.argsort(labels)
    return labels[order], vectors[order]


def difference(partition: Partition, wanted: I64) -> tuple[I64, I64]:
    """Labels of ``wanted`` that are missing, and live labels that are not wanted."""
    here = live(partition)[0]
    return np.setdiff1d(wanted, here), np.setdiff1d(here, wanted)


def selecting(allowed: I64 | None = None, barred: I64 | None = None) -> Selection:
    """Only labels of ``allowed`` (None: all), without ``barred``."""
    return Selection(None if allowed is None else Allowed.of(allowed), NO_LABELS if barred is None else barred)
