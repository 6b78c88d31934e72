"""Which build of a partition answers, and which partitions need a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.jobs import finish, hold
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import GenerationRow, PartitionSize
from radir_pacs.types import Job


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
    ) -> None:
        """A verified build takes over its partition, and ``job`` ends, in one transaction.

        ``as_of``: the xid of the `changes` reading that it was built from. Raises LeaseLost: another writer holds
        the partition, and this build is not recorded.
        """
        values = {"model_id": model_id, "region": region, "name": name}
        with self._database.transaction() as connection:
            if job is not None:
                hold(connection, job)
            run(connection, "retire_generation", values | {"name": None}, state="RETIRED", reason=None)
            run(connection, "record_generation", values, count=count, as_of=as_of, manifest=Jsonb(dict(manifest)))
            if job is not None:
                finish(connection, job)

    def published(self, model_id: str, region: str) -> GenerationRow | None:
        """The build that answers for a partition; None: the partition has only a tail."""
        with self._database.transaction() as connection:
            row = run(connection, "published_generation", model_id=model_id, region=region).fetchone()
        return None if row is None else GenerationRow(**row)

    def refuse(self, model_id: str, region: str, name: str, *, reason: str) -> bool:
        """The files of a build were refused: its partition is a tail until the next merge. False: not published."""
        values = {"model_id": model_id, "region": region, "name": name, "reason": reason}
        with self._database.transaction() as connection:
            return run(connection, "retire_generation", values, state="REFUSED").fetchone() is not None

    def partitions(self) -> tuple[PartitionSize, ...]:
        """Every partition of the active models, with what a merge would include."""
        with self._database.transaction() as connection:
            return tuple(PartitionSize(**row) for row in run(connection, "partitions").fetchall())

    def prune(self, *, gone_keep_s: float, generation_keep_s: float) -> None:
        """Forget deletions that every generation includes, and generations that no longer answer."""
        with self._database.transaction() as connection:
            run(connection, "prune_gone", keep_s=gone_keep_s)
            run(connection, "prune_changed", keep_s=gone_keep_s)
            run(connection, "prune_generations", keep_s=generation_keep_s)
