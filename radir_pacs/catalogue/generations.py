"""Which build of a partition answers, and which partitions need a new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.index_rows import GenerationRow, MergeBound, Moving, ServedPartition
from radir_pacs.catalogue.jobs import finish, hold
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.types import F32, I64, Job, PartitionKey

PAGE = 20_000  # encodings read at a time


class Generations(CataloguePart):
    def record(
        self,
        model_id: str,
        region: str,
        *,
        name: str,
        count: int,
        as_of: str,
        manifest: Mapping[str, Any],
        job: Job | None = None,
        engine: str = "local",
        filling: bool = False,
    ) -> None:
        """A verified build takes over its partition, and ``job`` ends, in one transaction.

        ``as_of``: the xid of the `changes` reading that it was built from. filling: it does not hold all yet, and the
        build of another engine answers meanwhile. Raises LeaseLost: another writer holds the partition, and this build
        is not recorded.
        """
        values = {"model_id": model_id, "region": region, "name": name}
        state = "FILLING" if filling else "PUBLISHED"
        written = {"count": count, "as_of": as_of, "manifest": Jsonb(dict(manifest)), "state": state, "engine": engine}
        with self._database.transaction() as connection:
            if job is not None:
                hold(connection, job)
            run(connection, "stop_filling", values)
            if not filling:
                run(connection, "retire_generation", values | {"name": None}, state="RETIRED", reason=None)
            run(connection, "record_generation", values | written)
            if job is not None:
                finish(connection, job)

    def begin_filling(
        self, model_id: str, region: str, *, name: str, manifest: Mapping[str, Any], job: Job, engine: str
    ) -> None:
        """``engine`` gets its first vectors of a partition from now on: it is known that it may have some, and the next
        attempt goes on. Raises LeaseLost.
        """
        values = {"model_id": model_id, "region": region, "name": name}
        written = {"count": 0, "as_of": "0", "manifest": Jsonb(dict(manifest)), "state": "FILLING", "engine": engine}
        with self._database.transaction() as connection:
            hold(connection, job)
            run(connection, "stop_filling", values)
            run(connection, "record_generation", values | written)

    def published(self, model_id: str, region: str) -> GenerationRow | None:
        """The build that answers for a partition; None: the partition has only a tail."""
        with self._database.transaction() as connection:
            row = run(connection, "published_generation", model_id=model_id, region=region).fetchone()
        return None if row is None else GenerationRow(**row)

    def filling(self, model_id: str, region: str, engine: str) -> GenerationRow | None:
        """What ``engine`` has so far of a partition that another one still answers for."""
        with self._database.transaction() as connection:
            row = run(connection, "filling_generation", model_id=model_id, region=region, engine=engine).fetchone()
        return None if row is None else GenerationRow(**row)

    def next_number(self, model_id: str, region: str) -> int:
        """For the name of the next build of a partition."""
        with self._database.transaction() as connection:
            row = run(connection, "newest_number", model_id=model_id, region=region).fetchone()
        assert row is not None
        return int(row["number"]) + 1

    def engine(self) -> str:
        """The engine that builds go to: where the index was moved, else where it began.

        It begins as the settings say of the process that asks first: others that say something else change nothing.
        """
        with self._database.transaction() as connection:
            row = run(connection, "index_engine").fetchone()
            if row is None or row["index_engine"] is None:
                run(connection, "begin_with_engine", engine=self._settings.index_engine)
                row = run(connection, "index_engine").fetchone()
        return str(row["index_engine"]) if row is not None else self._settings.index_engine

    def choose_engine(self, engine: str) -> None:
        """Builds go to ``engine`` from now on; each partition's old one answers until the new one is complete."""
        values = {"model_id": None, "region": None, "engine": engine}
        with self._database.transaction() as connection:
            chosen = run(connection, "index_engine").fetchone()
            if chosen is None or chosen["index_engine"] != engine:
                run(connection, "stop_filling", values)
            run(connection, "choose_engine", values)

    def to_move(self, engine: str) -> tuple[Moving, ...]:
        """Partitions that another engine than ``engine`` answers for."""
        with self._database.transaction() as connection:
            return tuple(Moving(**row) for row in run(connection, "to_move", engine=engine).fetchall())

    def to_clear(self, after_s: float) -> list[tuple[str, str, str]]:
        """(model id, region, outside engine) that nobody has asked for during ``after_s``."""
        with self._database.transaction() as connection:
            rows = run(connection, "to_clear", after_s=after_s).fetchall()
        return [(row["model_id"], row["region"], row["engine"]) for row in rows]

    def held_outside(self) -> list[tuple[str, str, str]]:
        """(model id, region, engine) wherever an outside engine may have vectors."""
        with self._database.transaction() as connection:
            rows = run(connection, "held_outside").fetchall()
        return [(row["model_id"], row["region"], row["engine"]) for row in rows]

    def cleared(self, model_id: str, region: str, engine: str) -> None:
        """The engine has nothing of that place any more."""
        with self._database.transaction() as connection:
            run(connection, "cleared", model_id=model_id, region=region, engine=engine)

    def refuse(self, model_id: str, region: str, name: str, *, reason: str) -> bool:
        """The files of a build were refused: its partition is a tail until the next merge, or another engine answers.

        False: it neither answered nor was on its way.
        """
        values = {"model_id": model_id, "region": region, "name": name, "reason": reason}
        with self._database.transaction() as connection:
            return run(connection, "retire_generation", values, state="REFUSED").fetchone() is not None

    def served(self) -> tuple[ServedPartition, ...]:
        """Every partition of the models that are kept, with the generation that answers for it."""
        with self._database.transaction() as connection:
            return tuple(ServedPartition(**row) for row in run(connection, "served_partitions").fetchall())

    def snapshot_xmin(self) -> str:
        """All transactions below it have ended: counts up to it are final."""
        with self._database.transaction() as connection:
            row = run(connection, "snapshot_xmin").fetchone()
        assert row is not None
        return str(row["xmin"])

    def tail(self, model_id: str, region: str, since: str, until: str) -> tuple[int, int]:
        """(vectors of the region, encodings of the model that are gone) from one snapshot to another."""
        values = {"model_id": model_id, "region": region, "since": since, "until": until}
        with self._database.transaction() as connection:
            row = run(connection, "count_tail", values).fetchone()
        assert row is not None
        return row["n_tail"], row["n_gone"]

    def tails(self, model_id: str, since: str, until: str) -> tuple[dict[str, int], int]:
        """`tail` of every region of a model at once; only regions with new vectors are in it."""
        values = {"model_id": model_id, "since": since, "until": until}
        with self._database.transaction() as connection:
            counts = {row["region"]: row["n"] for row in run(connection, "count_tails", values).fetchall()}
            gone = run(connection, "count_gone", values).fetchone()
        assert gone is not None
        return counts, gone["n"]

    def to_forget(self, after_s: float) -> list[PartitionKey]:
        """(model id, region) of partitions whose files may hold a vector that was deleted longer ago."""
        with self._database.transaction() as connection:
            rows = run(connection, "to_forget", after_s=after_s).fetchall()
        return [(row["model_id"], row["region"]) for row in rows]

    def merge_bound(self, model_id: str, region: str, since: str, most: int) -> MergeBound:
        """Up to where a merge reads on from a generation's ``as_of`` ("0": from the beginning).

        It takes in about ``most`` encodings at most, so that its length is bounded; the next merge goes on from there.
        Only encodings of one transaction cannot be divided.
        """
        values = {"model_id": model_id, "region": region, "since": since}
        with self._database.transaction() as connection:
            bound = run(connection, "merge_bound", values, most=most).fetchone()
            gone = run(connection, "merge_gone", values).fetchall()
        assert bound is not None
        return MergeBound(
            since=since,
            until=bound["until"],
            gone=np.fromiter((row["id"] for row in gone), np.int64, len(gone)),
            oldest_gone=min((row["at"] for row in gone), default=None),
        )

    def vectors(self, model_id: str, region: str, dim: int, bound: MergeBound, most: int) -> Iterator[tuple[I64, F32]]:
        """What `merge_bound` found, by ascending id, ``most`` at a time: int64 [n] and float32 [n, dim].

        Read by pages, each a transaction, so that the database's answer is never in memory as a whole.
        """
        values = {"model_id": model_id, "region": region, "since": bound.since, "until": bound.until}
        after, more = -1, True
        while more:
            labels, vectors = [], []
            count = 0
            while more and count < most:
                limit = min(PAGE, most - count)
                with self._database.transaction() as connection:
                    rows = run(connection, "merge_page", values, after=after, limit=limit).fetchall()
                more = len(rows) == limit
                if rows:
                    after = rows[-1]["id"]
                    count += len(rows)
                    labels.append(np.fromiter((row["id"] for row in rows), np.int64, len(rows)))
                    vectors.append(np.frombuffer(b"".join(row["vector"] for row in rows), "<f4").reshape(-1, dim))
            if count:
                yield np.concatenate(labels), np.concatenate(vectors).astype(np.float32, copy=False)

    def encoding_waits(self) -> bool:
        """Whether a study is being encoded, or waits for it."""
        with self._database.transaction() as connection:
            row = run(connection, "encoding_waits").fetchone()
        return row is not None and bool(row["waits"])

    def prune(self, *, gone_keep_s: float, generation_keep_s: float) -> None:
        """Forget deletions that every generation includes, and generations that no longer answer."""
        with self._database.transaction() as connection:
            run(connection, "prune_gone", keep_s=gone_keep_s)
            run(connection, "prune_changed", keep_s=gone_keep_s)
            run(connection, "prune_generations", keep_s=generation_keep_s)
