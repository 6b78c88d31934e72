"""What an administrator looks at: the last day by the hour, problems by reason, the index, the life of a study."""

from __future__ import annotations

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.survey_rows import (
    HOURS,
    Flow,
    Happening,
    IndexSize,
    PartitionSize,
    ProblemCount,
    ProblemOf,
    StudyEvent,
    Throughput,
)
from radir_pacs.errors import NotFound
from radir_pacs.reasons import ReasonCode
from radir_pacs.types import StudyState


class Survey(CataloguePart):
    """Reads only. Costs grow with the jobs of a week, and with studies that were set aside."""

    def throughput(self) -> Throughput:
        """Counts of each of the last hours; jobs are kept for a week, so these are complete."""
        counts = {flow: [0] * HOURS for flow in Flow}
        with self._database.transaction() as connection:
            for row in run(connection, "throughput", hours=HOURS):
                counts[Flow(row["flow"])][HOURS - 1 - row["hours_ago"]] = row["n"]
        return {flow: tuple(found) for flow, found in counts.items()}

    def problems(self) -> tuple[ProblemCount, ...]:
        """What was set aside, refused or failed for good, most frequent first."""
        aside = self.set_aside(StudyState.SKIPPED, StudyState.QUARANTINED)
        found = (*aside, *self.refused(), *self.failed_jobs())
        return tuple(sorted(found, key=lambda one: (-one.count, one.of, one.where, one.reason_code)))

    def set_aside(self, *states: StudyState) -> tuple[ProblemCount, ...]:
        """Studies of these states by reason."""
        return self._counted(ProblemOf.STUDY, "studies_by_reason", states=list(states))

    def refused(self) -> tuple[ProblemCount, ...]:
        """Refused instances that are still listed, by reason."""
        return self._counted(ProblemOf.REFUSAL, "refusals_by_reason")

    def failed_jobs(self) -> tuple[ProblemCount, ...]:
        """Jobs that failed for good and that nobody asked for again, by kind and reason."""
        return self._counted(ProblemOf.JOB, "failed_jobs_by_reason")

    def _counted(self, of: ProblemOf, query: str, **values: object) -> tuple[ProblemCount, ...]:
        with self._database.transaction() as connection:
            rows = run(connection, query, values).fetchall()
        return tuple(
            ProblemCount(
                of=of,
                where=row["place"],
                reason_code=ReasonCode(row["reason_code"]),
                count=row["n"],
                newest=row["newest"],
            )
            for row in rows
        )

    def indexes(self) -> tuple[IndexSize, ...]:
        """Of every model that is kept and has encoded something."""
        with self._database.transaction() as connection:
            return tuple(IndexSize(**row) for row in run(connection, "index_sizes"))

    def partitions(self, model_id: str) -> tuple[PartitionSize, ...]:
        """The largest first. Counts what no generation holds, vector by vector: for the page of one model."""
        with self._database.transaction() as connection:
            return tuple(PartitionSize(**row) for row in run(connection, "partition_sizes", model_id=model_id))

    def timeline(self, study_uid: str) -> tuple[StudyEvent, ...]:
        """What happened to a study, oldest first; jobs that ended more than a week ago are forgotten.

        Raises NotFound.
        """
        with self._database.transaction() as connection:
            rows = run(connection, "timeline", study_uid=study_uid).fetchall()
        if not rows:
            raise NotFound(f"there is no study {study_uid}")
        return tuple(_event(**row) for row in rows)


def _event(*, what: str, reason_code: str | None, **values: object) -> StudyEvent:
    code = None if reason_code is None else ReasonCode(reason_code)
    return StudyEvent(what=Happening(what), reason_code=code, **values)  # type: ignore[arg-type]
