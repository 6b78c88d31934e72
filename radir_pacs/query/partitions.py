"""The open partitions of one process, brought up to date before each answer.

A partition is its published generation and what the catalogue has written since, read by snapshot: a deleted study is
gone from the next answer on, a committed encoding is in it. A generation whose files are refused costs a rebuild: the
partition is then only a tail, searched exactly. `IndexCheck` reads open ones again and again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import IndexRefused
from radir_pacs.index import Generation, Partition, check_vectors_file, open_generation, partition_folder

log = logging.getLogger(__name__)


class _Open:
    """A partition, and the snapshot up to which the catalogue has been read into it."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.lock = threading.Lock()
        self.generation: Generation | None = None
        self.since = "0"

    def forget(self) -> None:
        """Start again from the catalogue, without the generation; searches in progress finish with what they have."""
        old = self.partition
        self.partition = Partition(model_id=old.model_id, region=old.region, dim=old.dim)
        self.generation, self.since = None, "0"


class Partitions:
    """Opens and refreshes partitions; safe from many threads."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._opening = threading.Lock()
        self._open: dict[tuple[str, str], _Open] = {}

    def fresh(self, model_id: str, region: str, *, dim: int) -> Partition:
        """The partition, up to date with the catalogue."""
        with self._opening:
            opened = self._open.setdefault(
                (model_id, region), _Open(Partition(model_id=model_id, region=region, dim=dim))
            )
        with opened.lock:
            self._follow_generation(opened)
            changes = self._catalogue.encodings.changes(model_id, region, opened.since)
            opened.partition.apply(labels=changes.ids, vectors=changes.vectors, deleted=changes.gone)
            opened.since = changes.xid
        return opened.partition

    def _follow_generation(self, opened: _Open) -> None:
        """Switch to the published generation when it is not the one that answers."""
        partition = opened.partition
        published = self._catalogue.generations.published(partition.model_id, partition.region)
        if published is None:
            if opened.generation is not None:  # somebody refused it
                opened.forget()
            return
        if opened.generation is not None and published.name == opened.generation.name:
            return
        generation = self._opened(partition, published.name)
        if generation is None:
            return
        partition.swap(generation)
        opened.generation = generation
        if opened.since == "0":  # a fresh process need not read again what the generation holds
            opened.since = published.as_of

    def _opened(self, partition: Partition, name: str) -> Generation | None:
        folder = partition_folder(self._settings.home, partition.model_id, partition.region) / name
        try:
            return open_generation(folder, model_id=partition.model_id, region=partition.region, dim=partition.dim)
        except IndexRefused as error:
            self._refuse(partition, name, error)
            return None

    def check(self, rest: Callable[[int], None]) -> None:
        """Read the vectors of every open generation again; an altered one is refused and no longer answers.

        ``rest`` as in `check_vectors_file`. Raises what it raises, and StorageFailed.
        """
        with self._opening:
            everything = list(self._open.values())
        for opened in everything:
            generation, partition = opened.generation, opened.partition
            if generation is None:
                continue
            folder = partition_folder(self._settings.home, partition.model_id, partition.region) / generation.name
            try:
                check_vectors_file(folder, generation.manifest, rest)
            except IndexRefused as error:
                published = self._catalogue.generations.published(partition.model_id, partition.region)
                if published is None or published.name != generation.name:
                    continue  # replaced, and perhaps cleared away, meanwhile: the next answer follows
                self._refuse(partition, generation.name, error)
                with opened.lock:
                    if opened.generation is generation:
                        opened.forget()

    def _refuse(self, partition: Partition, name: str, error: IndexRefused) -> None:
        log.error("generation refused", extra={"generation": name, "reason": str(error)})
        self._catalogue.generations.refuse(partition.model_id, partition.region, name, reason=str(error))
