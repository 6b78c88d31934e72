"""Manifests: what a segment or a generation consists of, how it was built, and the hash of every file.

A manifest seals itself: it holds the SHA-256 of its own canonical text, is read back only when it is that text to the
byte, and gives its folder the name. So one changed bit anywhere, or a folder put under another partition's name, is
seen before any vector is used.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from radir_pacs.errors import IndexRefused

MANIFEST = "manifest.json"
VECTORS = "vectors.f32"  # float32 little-endian [count, dim], C order
LABELS = "labels.i64"  # int64 little-endian [count], ascending: encoding ids of the catalogue
GRAPH = "graph.faiss"
DELETED = "deleted.i64"  # of a generation: int64 little-endian, ascending: labels in its segments that are gone
MANIFEST_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size and SHA-256 (hex) of one file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class GraphRecord:
    """How the graph was built, and the recall at 10 that the check before publication measured."""

    library: str
    library_version: str
    m: int
    ef_construction: int
    recall: float | None = None  # None only before the check


@dataclass(frozen=True, kw_only=True)
class SegmentRecord:
    """A segment of a generation: ``name`` is its folder under segments/, ``deleted`` the number of its labels gone."""

    name: str
    count: int
    deleted: int


@dataclass(frozen=True, kw_only=True)
class _Sealed:
    """What both manifests have: the partition, and the seal."""

    FORMAT: ClassVar[str]

    model_id: str
    region: str
    dim: int
    built_at: datetime
    files: Mapping[str, FileRecord]

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError("dim is at least 1")
        if self.built_at.tzinfo is None:
            raise ValueError("built_at must name its time zone")

    @functools.cached_property
    def seal(self) -> str:
        return hashlib.sha256(_text(self._fields())).hexdigest()

    def to_bytes(self) -> bytes:
        """The sealed canonical text; `from_bytes` reads nothing else."""
        return _text(self._fields() | {"sha256": self.seal})

    def _fields(self) -> dict[str, Any]:
        return {"format": self.FORMAT} | asdict(self) | {"built_at": self.built_at.isoformat()}

    @classmethod
    def from_bytes(cls, text: bytes) -> Self:
        """Raises IndexRefused for another format, a broken seal or fields that contradict one another."""
        try:
            fields = json.loads(text)
            found = fields.pop("format")
            if found != cls.FORMAT:
                raise IndexRefused(f"the index has the format {str(found)[:40]!r}, not {cls.FORMAT!r}")
            del fields["sha256"]
            fields["built_at"] = datetime.fromisoformat(fields["built_at"])
            fields["files"] = {name: FileRecord(**record) for name, record in fields["files"].items()}
            manifest = cls(**cls._typed(fields))
            sealed = manifest.to_bytes()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IndexRefused("the manifest of the index cannot be read") from error
        if sealed != text:
            raise IndexRefused("the manifest of the index was altered")
        return manifest

    @classmethod
    def _typed(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return fields


@dataclass(frozen=True, kw_only=True)
class SegmentManifest(_Sealed):
    """One segment. ``graph`` is None where exact search is as fast or the graph failed its check.

    build: random, so that no two builds have the same name; one may stand damaged while the other is made.
    """

    FORMAT = "radir-index-segment/2"

    build: str
    count: int
    metric: str
    graph: GraphRecord | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.files) != {VECTORS, LABELS} | ({GRAPH} if self.graph else set()):
            raise ValueError("a segment has vectors, labels and perhaps a graph")
        if self.files[VECTORS].size_bytes != self.count * self.dim * 4:
            raise ValueError("the size of the vectors is count x dim x 4 bytes")
        if self.count < 0 or self.files[LABELS].size_bytes != self.count * 8:
            raise ValueError("the size of the labels is count x 8 bytes")

    @property
    def name(self) -> str:
        """Folder name: the head of the seal."""
        return self.seal[:16]

    @classmethod
    def _typed(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"graph": fields["graph"] and GraphRecord(**fields["graph"])}


@dataclass(frozen=True, kw_only=True)
class GenerationManifest(_Sealed):
    """One generation of a partition: its segments, and which of their labels are gone.

    oldest_deletion: when the first of those went, None where none did.
    """

    FORMAT = "radir-index-generation/2"

    number: int
    segments: tuple[SegmentRecord, ...]
    oldest_deletion: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.number < 1:
            raise ValueError("number is at least 1")
        if set(self.files) != {DELETED}:
            raise ValueError(f"a generation's file is {DELETED}")
        if self.files[DELETED].size_bytes != 8 * sum(segment.deleted for segment in self.segments):
            raise ValueError("the size of the deleted labels is their number x 8 bytes")

    @functools.cached_property  # every answer states it
    def name(self) -> str:
        """Folder name: a number that grows with time, and the head of the manifest's seal."""
        return f"{self.number:08d}-{self.seal[:12]}"

    @property
    def count(self) -> int:
        """Vectors that can be returned."""
        return sum(segment.count - segment.deleted for segment in self.segments)

    @classmethod
    def _typed(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"segments": tuple(SegmentRecord(**record) for record in fields["segments"])}


def _text(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()
