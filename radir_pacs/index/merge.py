"""A merge: the tail and small segments, or ones with many deleted vectors, become one segment; the others stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from radir_pacs.index.builder import DEFAULT_GRAPH, GraphSettings, build_segment, publish
from radir_pacs.index.generation import Generation, check_segment
from radir_pacs.index.label_set import NO_LABELS, LabelSet, merged
from radir_pacs.index.manifest import GenerationManifest, SegmentRecord
from radir_pacs.index.part import SegmentPart
from radir_pacs.index.writer import MOST, to_merge
from radir_pacs.types import F32, I64

Content = tuple[I64, F32]  # labels, ascending, and their vectors


def merge(
    folder: Path,
    *,
    model_id: str,
    region: str,
    dim: int,
    generation: Generation | None,
    tail: Iterable[Content],
    gone: I64,
    built_at: datetime,
    oldest_deletion: str | None = None,
    forget: bool = False,
    graph: GraphSettings = DEFAULT_GRAPH,
    most: int = MOST,
) -> GenerationManifest:
    """Publish the next generation: what ``generation`` holds and ``tail`` brings, without the labels ``gone``.

    tail: pieces of at most ``most`` vectors; only the last is merged with what stands. oldest_deletion: when the first
    of ``gone`` went. forget: see `to_merge`. Raises what `build_segment` raises, and SegmentAltered; nothing is visible
    then.
    """
    where = {"model_id": model_id, "region": region}
    deleted = LabelSet().plus(np.unique(gone))
    if generation is not None:
        deleted = deleted.plus(generation.deleted)
        oldest_deletion = generation.manifest.oldest_deletion or oldest_deletion
    parts = [SegmentPart(segment=s, dead=deleted.among(s.labels)) for s in generation.segments] if generation else []
    records = []

    def built(contents: Sequence[Content]) -> None:
        labels, vectors = _together(contents, dim)
        manifest = build_segment(folder, **where, labels=labels, vectors=vectors, built_at=built_at, graph=graph)
        records.append(SegmentRecord(name=manifest.name, count=manifest.count, deleted=0))

    rest: Content = NO_LABELS, np.empty((0, dim), np.float32)
    for labels, vectors in tail:
        if len(rest[0]):
            built([rest])
        stays = ~deleted.has(labels)
        for part in parts:
            stays &= ~part.segment.has(labels)
        rest = (labels, vectors) if stays.all() else (labels[stays], vectors[stays])
    chosen = to_merge(len(rest[0]), [(len(part), len(part.dead)) for part in parts], forget=forget, most=most)
    for place in chosen:
        check_segment(folder, parts[place].segment.name)
    contents = [rest, *(parts[place].live() for place in chosen)]
    if any(len(labels) for labels, _ in contents):
        built(contents)
    kept = [part for place, part in enumerate(parts) if place not in chosen and len(part)]
    records = [
        *(SegmentRecord(name=p.segment.name, count=len(p.segment), deleted=len(p.dead)) for p in kept),
        *records,
    ]
    still = NO_LABELS
    for part in kept:
        still = merged(still, part.dead)
    return publish(
        folder,
        **where,
        dim=dim,
        segments=records,
        deleted=still,
        built_at=built_at,
        oldest_deletion=oldest_deletion,
    )


def _together(contents: Sequence[Content], dim: int) -> Content:
    """One content, its labels ascending; every vector is copied once at most."""
    contents = [content for content in contents if len(content[0])]
    if len(contents) == 1:
        return contents[0]
    labels = np.concatenate([labels for labels, _ in contents])
    order = np.argsort(labels)
    places = np.empty(len(order), np.intp)
    places[order] = np.arange(len(order))
    vectors = np.empty((len(labels), dim), np.float32)
    start = 0
    for _, part in contents:
        vectors[places[start : start + len(part)]] = part
        start += len(part)
    return labels[order], vectors
