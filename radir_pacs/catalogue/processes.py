"""Who lives, and what there is to do: the rows behind `radir status`."""

from __future__ import annotations

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import Part
from radir_pacs.catalogue.rows import JobCount, Overview, ProcessRow
from radir_pacs.types import JobKind, JobState, StudyState


class Processes(Part):
    def say_alive(self, name: str, pid: int, state: str, detail: str = "") -> None:
        """Heartbeat of a process, by a name of its own ("listener-1"). ``detail`` names no patient."""
        with self._database.transaction() as connection:
            run(connection, "alive", name=name, pid=pid, state=state, detail=detail)

    def say_gone(self, name: str, pid: int) -> None:
        """A process ends in order; one that is replaced by another of its name leaves that one's row alone."""
        with self._database.transaction() as connection:
            run(connection, "gone", name=name, pid=pid)

    def processes(self) -> tuple[ProcessRow, ...]:
        """All processes that said that they live."""
        with self._database.transaction() as connection:
            return tuple(ProcessRow(**row) for row in run(connection, "processes"))

    def prune_processes(self, keep_s: float) -> None:
        """Forget processes that have been silent for so long."""
        with self._database.transaction() as connection:
            run(connection, "prune_processes", keep_s=keep_s)

    def overview(self) -> Overview:
        """Processes, studies by state, jobs by kind and state, encodings by model."""
        with self._database.transaction() as connection:
            jobs = tuple(
                JobCount(
                    kind=JobKind(row["kind"]),
                    state=JobState(row["state"]),
                    count=row["n"],
                    oldest_s=row["oldest_s"],
                )
                for row in run(connection, "count_jobs")
            )
            refusals = run(connection, "count_refusals").fetchone()
            return Overview(
                processes=tuple(ProcessRow(**row) for row in run(connection, "processes")),
                studies={StudyState(row["state"]): row["n"] for row in run(connection, "count_studies")},
                jobs=jobs,
                encodings={row["model_id"]: row["n"] for row in run(connection, "count_encodings")},
                unread_reports={row["language"]: row["n"] for row in run(connection, "count_unread_reports")},
                refusals_last_day=refusals["n"] if refusals else 0,
                oldest_open_job_s=max((job.oldest_s for job in jobs if job.oldest_s is not None), default=None),
            )
