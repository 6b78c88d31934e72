"""The open partitions of one process, and the tables of their cases, brought up to date before each answer.

A partition is its published generation and what the catalogue has written since, read by snapshot: a deleted study is
gone from the next answer on, a committed encoding is in it. What did not change costs nothing. A generation whose files
are refused costs a rebuild: the partition is then only a tail, searched exactly. `IndexCheck` re-reads open ones
periodically. An outside engine may hold the generation (`index.engine`). Partitions open at their first question, each
without holding up another, and those asked least recently are closed when the memory set for them is used up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping

from radir_pacs import freed_memory
from radir_pacs.catalogue import CaseChanges, Catalogue, Changes, GenerationRow
from radir_pacs.config import Settings
from radir_pacs.errors import IndexRefused
from radir_pacs.index import Generation, Partition, check_generation, open_generation, partition_folder
from radir_pacs.index.engine import LOCAL, engine_of
from radir_pacs.index.engines import Engines
from radir_pacs.index.generation import generation_number
from radir_pacs.index.part import Holding
from radir_pacs.query.case_table import CaseTable
from radir_pacs.types import ModelState, PartitionKey

log = logging.getLogger(__name__)

_NEVER = "0"


class _Open:
    """A partition, and the snapshot up to which the catalogue has been read into it."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.opening = threading.Lock()  # held while files are opened
        self.changing = threading.Lock()  # held for an instant
        self.generation: Holding | None = None
        self.since = _NEVER

    def standing(self) -> tuple[Partition, str, Holding | None]:
        """The partition, its snapshot and its generation, which belong together. Answer from this partition: another
        thread may put an empty one in its place at any time.
        """
        with self.changing:
            return self.partition, self.since, self.generation

    def forget(self) -> None:
        """Start again from the catalogue, without the generation; searches in progress finish with what they have."""
        with self.changing:
            self._start_again()

    def _start_again(self) -> None:
        old = self.partition
        self.partition = Partition(model_id=old.model_id, region=old.region, dim=old.dim)
        self.generation, self.since = None, _NEVER

    def take(self, partition: Partition, changes: Changes) -> None:
        """What is new, unless the partition was forgotten since it was asked for."""
        with self.changing:
            if partition is not self.partition or self.since == _NEVER:
                return
            if int(self.since) <= int(changes.horizon):
                self._start_again()
                return
            partition.apply(labels=changes.ids, vectors=changes.vectors, deleted=changes.gone)
            self.since = max(self.since, changes.xid, key=int)


def _is_newer(published: str, opened: Holding | None) -> bool:
    """Whether to switch: a slow question may still name a build that was replaced since.

    Numbers of different engines say nothing of each other: after a move, the next question switches again at worst.
    """
    if opened is None or published == opened.name:
        return opened is None
    if engine_of(published) != engine_of(opened.name):
        return True
    return generation_number(published)[0] >= generation_number(opened.name)[0]


class Readings:
    """How far this process has read when a question is asked. The question brings the news since then."""

    def __init__(self, tables: Mapping[str, CaseTable], opened: Mapping[PartitionKey, _Open]) -> None:
        self._tables, self._opened = tables, opened
        self._partitions = {place: entry.partition for place, entry in opened.items()}
        self.cases = {model_id: table.since for model_id, table in tables.items()}
        self.partitions = {
            place: (entry.since, entry.partition.dim) for place, entry in opened.items() if entry.since != _NEVER
        }

    def take(self, cases: Mapping[str, CaseChanges], partitions: Mapping[PartitionKey, Changes]) -> set[str]:
        """The news of `catalogue.questions`; returns the models whose tables are up to date by it."""
        whole = {model_id for model_id, news in cases.items() if int(self.cases[model_id]) > int(news.horizon)}
        for model_id in whole:
            self._tables[model_id].take(cases[model_id])
        for place, changes in partitions.items():
            self._opened[place].take(self._partitions[place], changes)
        return whole


class Partitions:
    """Opens, refreshes and closes partitions; safe from many threads."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue, self._settings = catalogue, settings
        self._engines = Engines(catalogue, settings)
        self._lock = threading.Lock()
        self._open: dict[PartitionKey, _Open] = {}  # least recently used first
        self._tables: dict[str, CaseTable] = {}
        self._table_locks: dict[str, threading.Lock] = {}
        self._unseen: frozenset[str] = frozenset()  # models whose answers nobody sees

    def answers(self, model_id: str, *, unseen: bool) -> None:
        """A model is about to answer: somebody, or nobody but a comparison, whose room is what others leave."""
        if (model_id in self._unseen) != unseen:
            self._unseen = self._unseen | {model_id} if unseen else self._unseen - {model_id}

    def readings(self, regions: Collection[str]) -> Readings:
        """Those of the open partitions of some regions, under every model, and of all open tables."""
        with self._lock:
            return Readings(
                dict(self._tables), {place: entry for place, entry in self._open.items() if place[1] in regions}
            )

    def cases(self, model_id: str, *, is_fresh: bool) -> CaseTable:
        """The table of a model's cases, read in full the first time.

        is_fresh: the news of the caller's question were taken into it; else it is brought up to date here.
        """
        with self._lock:
            table = self._tables.get(model_id)
            lock = self._table_locks.setdefault(model_id, threading.Lock())
        if table is not None and is_fresh:
            return table
        with lock:
            table = self._tables.get(model_id)
            news = self._catalogue.cases.news(model_id, table.since) if table is not None else None
            if table is None or news is None or int(table.since) <= int(news.horizon):
                table = self._whole_table(model_id)
            else:
                table.take(news)
            with self._lock:
                self._tables[model_id] = table
        return table

    def _whole_table(self, model_id: str) -> CaseTable:
        """Read in full, which takes several times the memory that stays."""
        table = CaseTable(model_id, self._catalogue)
        table.take(self._catalogue.cases.all(model_id))
        freed_memory.give_back()
        return table

    def opened(self, model_id: str, region: str, *, dim: int, published: str | None) -> Partition:
        """A partition whose news have just been taken, with the name of the build that answers now."""
        entry = self._entry((model_id, region), dim)
        partition, since, generation = entry.standing()
        if since == _NEVER or (published is None and generation is not None):
            return self._open_anew(entry)
        if published is not None and _is_newer(published, generation):
            self._follow(entry, published)
        return partition

    def fresh(self, model_id: str, region: str, *, dim: int) -> Partition:
        """The partition, up to date with the catalogue."""
        place = (model_id, region)
        entry = self._entry(place, dim)
        partition, since, _ = entry.standing()
        if since != _NEVER:
            found = self._catalogue.questions.published([place]).get(place)
            published = found.name if found is not None else None
            entry.take(partition, self._catalogue.encodings.changes(model_id, region, since))
        else:
            published = None
        return self.opened(model_id, region, dim=dim, published=published)

    def _entry(self, place: PartitionKey, dim: int) -> _Open:
        with self._lock:
            entry = self._open.pop(place, None) or _Open(Partition(model_id=place[0], region=place[1], dim=dim))
            self._open[place] = entry  # the most recently used one now
            return entry

    def _open_anew(self, entry: _Open) -> Partition:
        """From the catalogue's build and the tail behind it; who asks for the same partition meanwhile waits."""
        with entry.opening:
            model_id, region = entry.partition.model_id, entry.partition.region
            published = self._catalogue.questions.published([(model_id, region)]).get((model_id, region))
            if published is None and entry.generation is not None:  # somebody refused it
                entry.forget()
            partition, since, _ = entry.standing()
            if since != _NEVER:  # opened while we waited, perhaps as it was before our question
                entry.take(partition, self._catalogue.encodings.changes(model_id, region, since))
                return partition
            generation = self._generation(partition, published) if published is not None else None
            if generation is not None and published is not None:
                partition.swap(generation)
                since = published.as_of  # no need to read again what the generation holds
            changes = self._catalogue.encodings.changes(model_id, region, since)
            partition.apply(labels=changes.ids, vectors=changes.vectors, deleted=changes.gone)
            with entry.changing:
                if entry.partition is partition:
                    entry.generation, entry.since = generation, changes.xid
        self._make_room(entry)
        return partition

    def _follow(self, entry: _Open, published: str) -> None:
        """Switch to a newer build. One thread opens it; the others answer from the one before and the tail, except
        after a move: the engine before may be emptied by now, so they wait.
        """
        opened = entry.generation
        moved = opened is not None and engine_of(opened.name) != engine_of(published)
        if not entry.opening.acquire(blocking=moved):
            return
        try:
            partition = entry.partition
            if not _is_newer(published, entry.generation):
                return  # another thread was sooner
            row = self._catalogue.questions.published([(partition.model_id, partition.region)]).get(
                (partition.model_id, partition.region)
            )
            if row is None:
                return  # refused meanwhile: the next question opens it anew
            generation = self._generation(partition, row, entry.generation)
            with entry.changing:
                if generation is not None and entry.partition is partition:
                    partition.swap(generation)
                    entry.generation = generation
        finally:
            entry.opening.release()
        self._make_room(entry)

    def _make_room(self, newest: _Open) -> None:
        """Close the partitions asked least recently while all together exceed the memory set for them.

        First those of models that answer unseen, with their tables; they never take the place of what somebody asks.
        """
        most, unseen = self._settings.index_memory_mib << 20, self._unseen
        with self._lock:
            sizes = {place: entry.partition.nbytes for place, entry in self._open.items()}
            used = sum(sizes.values()) + sum(table.nbytes for table in self._tables.values())
            aside = [place for place in sizes if place[0] in unseen]
            ours = [place for place in sizes if place[0] not in unseen and self._open[place] is not newest]
            for place in aside:
                if used <= most:
                    return
                used -= self._close(place, sizes[place])
            for model_id in unseen & self._tables.keys():
                if used <= most:
                    return
                used -= self._tables.pop(model_id).nbytes
            if newest.partition.model_id in unseen:
                return
            for place in ours:
                if used <= most:
                    return
                used -= self._close(place, sizes[place])

    def _close(self, place: PartitionKey, size: int) -> int:
        del self._open[place]
        log.info("partition closed", extra={"model": place[0], "region": place[1]})
        return size

    def close_retired(self) -> None:
        """Close the partitions and tables of models that answer no more; a question still under way keeps its own."""
        asked = (ModelState.SERVING, ModelState.SHADOW)  # what is only kept for a rollback is opened again by one
        answering = {model.model_id for model in self._catalogue.models.kept() if model.state in asked}
        with self._lock:
            places = [place for place in self._open if place[0] not in answering]
            tables = [model_id for model_id in self._tables if model_id not in answering]
            for place in places:
                del self._open[place]
            for model_id in tables:
                del self._tables[model_id]
        if places or tables:
            log.info("retired models closed", extra={"partitions": len(places), "tables": len(tables)})

    def _generation(self, partition: Partition, row: GenerationRow, reuse: Holding | None = None) -> Holding | None:
        """An open build, with the segments that ``reuse`` has open already; None where its files are refused."""
        if row.engine != LOCAL:
            place = (partition.model_id, partition.region)
            return self._engines.open_generation(row.engine, place, partition.dim, row.name, row.as_of)
        folder = partition_folder(self._settings.home, partition.model_id, partition.region) / row.name
        opened = reuse if isinstance(reuse, Generation) else None
        try:
            return open_generation(
                folder, model_id=partition.model_id, region=partition.region, dim=partition.dim, reuse=opened
            )
        except IndexRefused as error:
            self._refuse(partition, row.name, error)
            return None

    def lost(self, partition: Partition, error: IndexRefused) -> None:
        """An outside engine has lost what the partition's generation had there: it is filled anew."""
        name = partition.generation
        if name is None or engine_of(name) == LOCAL:
            return
        if not self._refuse(partition, name, error):
            return  # another build answers already: the next question switches to it
        with self._lock:
            entry = self._open.get((partition.model_id, partition.region))
        if entry is not None and entry.partition is partition:
            entry.forget()

    def close(self) -> None:
        """Give back the connections to outside engines."""
        self._engines.close()

    def check(self, rest: Callable[[int], None]) -> None:
        """Read the files of every open generation again; an altered one is refused and no longer answers.

        ``rest`` as in `check_generation`. Raises what it raises, and StorageFailed.
        """
        self.close_retired()
        with self._lock:
            everything = list(self._open.values())
        for opened in everything:
            generation, partition = opened.generation, opened.partition
            if not isinstance(generation, Generation):
                continue  # an outside engine's is counted at every merge
            folder = partition_folder(self._settings.home, partition.model_id, partition.region) / generation.name
            try:
                check_generation(folder, rest)
            except IndexRefused as error:
                place = (partition.model_id, partition.region)
                published = self._catalogue.questions.published([place]).get(place)
                if published is None or published.name != generation.name:
                    continue  # replaced, and perhaps cleared away, meanwhile: the next answer follows
                self._refuse(partition, generation.name, error)
                if opened.generation is generation:
                    opened.forget()

    def _refuse(self, partition: Partition, name: str, error: IndexRefused) -> bool:
        """False: it does not answer any more, and nothing was refused."""
        log.error("generation refused", extra={"generation": name, "reason": str(error)})
        return self._catalogue.generations.refuse(partition.model_id, partition.region, name, reason=str(error))
