"""Counts of the whole archive for those who watch it: queues, studies, generations. No ids."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.errors import InsufficientPrivilege

from radir_pacs.catalogue.connecting import gave_up
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.migrate import newest_schema
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import StorageFailed
from radir_pacs.types import StudyState


@dataclass(frozen=True, kw_only=True)
class OpenJobs:
    """Jobs of one queue that wait or run. oldest_s: how long the oldest one that may run has waited; 0: none does."""

    queue: str
    waiting: int
    running: int
    oldest_s: float


@dataclass(frozen=True, kw_only=True)
class GenerationFigure:
    """The generation that answers for a partition."""

    model_id: str
    region: str
    age_s: float


@dataclass(frozen=True, kw_only=True)
class SchemaVersions:
    """The newest migration that the database has, that a program must know for it, and that this one knows."""

    there: int
    needed: int
    known: int


class Figures(CataloguePart):
    def queues(self) -> tuple[OpenJobs, ...]:
        """Every queue that has ever had work, also one that is empty now."""
        with self._database.transaction() as connection:
            return tuple(OpenJobs(**row) for row in run(connection, "figures_of_queues"))

    def studies(self) -> dict[StudyState, int]:
        """Studies by state."""
        with self._database.transaction() as connection:
            return {StudyState(row["state"]): row["n"] for row in run(connection, "count_studies")}

    def generations(self) -> tuple[GenerationFigure, ...]:
        """Those of the models that are kept."""
        with self._database.transaction() as connection:
            return tuple(GenerationFigure(**row) for row in run(connection, "figures_of_generations"))

    def schema(self) -> SchemaVersions:
        """What the database has and this program knows. Raises StorageFailed where its user may not read it."""
        try:
            with self._database.transaction() as connection:
                made = run(connection, "schema_is_made").fetchone()
                if made is None or not made["is_made"]:
                    return SchemaVersions(there=0, needed=0, known=newest_schema())
                row = run(connection, "schema_version").fetchone()
        except InsufficientPrivilege as error:
            raise StorageFailed(gave_up(error)) from error
        assert row is not None
        return SchemaVersions(there=row["version"], needed=row["needed"], known=newest_schema())

    def clock(self) -> float:
        """The database's time, in seconds since 1970."""
        with self._database.transaction() as connection:
            row = run(connection, "database_clock").fetchone()
        assert row is not None
        return float(row["now_s"])
