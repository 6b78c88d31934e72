"""The outside engines of one process, by name, each opened when it is asked for."""

from __future__ import annotations

import threading

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import NotReady, SettingError
from radir_pacs.index.engine import MILVUS, PGVECTOR, Engine
from radir_pacs.index.milvus import MilvusEngine
from radir_pacs.index.outside import OutsideGeneration
from radir_pacs.index.selection import Allowed
from radir_pacs.types import F32, I64, PartitionKey


class Engines:
    """Safe for many threads."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._lock = threading.Lock()
        self._milvus: MilvusEngine | None = None

    def named(self, name: str) -> Engine:
        """Raises SettingError for one that is unknown, or that the settings do not say how to reach."""
        if name == PGVECTOR:
            return self._catalogue.vectors
        if name != MILVUS:
            raise SettingError(f"index_engine: {name!r} is none of {PGVECTOR}, {MILVUS}")
        with self._lock:
            if self._milvus is None:
                self._milvus = MilvusEngine(self._settings, self._catalogue.backups.installation())
            return self._milvus

    def open_generation(self, engine: str, place: PartitionKey, dim: int, name: str, as_of: str) -> OutsideGeneration:
        """A generation that an outside engine holds. Raises SettingError, and NotReady where the engine is unknown."""
        model_id, region = place

        def vectors_of(labels: I64) -> tuple[I64, F32]:
            return self._catalogue.encodings.vectors_of(model_id, region, labels)

        try:
            opened = self.named(engine)
        except SettingError as wrong:
            raise NotReady(f"the index is held by {engine}, which this process cannot reach: {wrong}") from wrong
        labels = self._catalogue.encodings.labels_until(model_id, region, as_of)
        return OutsideGeneration(
            name=name,
            place=(model_id, region, dim),
            engine=opened,
            vectors_of=vectors_of,
            held=Allowed.of(labels),
            count=len(labels),
        )

    def close(self) -> None:
        with self._lock:
            milvus, self._milvus = self._milvus, None
        if milvus is not None:
            milvus.close()
