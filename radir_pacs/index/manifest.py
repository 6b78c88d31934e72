"""The manifest of a generation, `manifest.json`: its partition, how it was built, and the hash of every file.

The manifest seals itself: it holds the SHA-256 of its own canonical text, is read back only when it is that text to
the byte, and gives the generation's folder its name. So one changed bit anywhere, or a folder put under another
partition's name, is seen before any vector is used.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from radir_pacs.errors import IndexRefused

FORMAT = "radir-index-generation/1"
MANIFEST = "manifest.json"
VECTORS = "vectors.f32"  # float32 little-endian [count, dim], C order
LABELS = "labels.i64"  # int64 little-endian [count], ascending: encoding ids of the catalogue
GRAPH = "index.hnsw"
MANIFEST_MAX_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size and SHA-256 (hex) of one file of a generation."""

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
class GenerationManifest:
    """One generation of a partition. ``graph`` is None where exact search is as fast or the graph failed its check."""

    number: int
    model_id: str
    region: str
    dim: int
    count: int
    metric: str
    built_at: datetime
    files: Mapping[str, FileRecord]
    graph: GraphRecord | None

    def __post_init__(self) -> None:
        if self.number < 1 or self.dim < 1 or self.count < 0:
            raise ValueError("number and dim are at least 1, count at least 0")
        if self.built_at.tzinfo is None:
            raise ValueError("built_at must name its time zone")
        expected = {VECTORS, LABELS} | ({GRAPH} if self.graph else set())
        if set(self.files) != expected:
            raise ValueError(f"a generation's files are {', '.join(sorted(expected))}")
        if self.files[VECTORS].size_bytes != self.count * self.dim * 4:
            raise ValueError("the size of the vectors is count x dim x 4 bytes")
        if self.files[LABELS].size_bytes != self.count * 8:
            raise ValueError("the size of the labels is count x 8 bytes")

    @functools.cached_property  # every answer states it
    def name(self) -> str:
        """Folder name: a number that grows with time, and the head of the manifest's seal."""
        return f"{self.number:08d}-{self._seal()[:12]}"

    def to_bytes(self) -> bytes:
        """The sealed canonical text; `from_bytes` reads nothing else."""
        return _text(self._fields() | {"sha256": self._seal()})

    def _fields(self) -> dict[str, Any]:
        return {"format": FORMAT} | asdict(self) | {"built_at": self.built_at.isoformat()}

    def _seal(self) -> str:
        return hashlib.sha256(_text(self._fields())).hexdigest()

    @classmethod
    def from_bytes(cls, text: bytes) -> GenerationManifest:
        """Raises IndexRefused for another format, a broken seal or fields that contradict one another."""
        try:
            fields = json.loads(text)
            found = fields.pop("format")
            if found != FORMAT:
                raise IndexRefused(f"the index generation has the format {str(found)[:40]!r}, not {FORMAT!r}")
            del fields["sha256"]
            fields["built_at"] = datetime.fromisoformat(fields["built_at"])
            fields["files"] = {name: FileRecord(**record) for name, record in fields["files"].items()}
            fields["graph"] = fields["graph"] and GraphRecord(**fields["graph"])
            manifest = cls(**fields)
            sealed = manifest.to_bytes()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IndexRefused("the manifest of the index generation cannot be read") from error
        if sealed != text:
            raise IndexRefused("the manifest of the index generation was altered")
        return manifest


def _text(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()
