"""Which processes are alive and what work is left: the rows behind `radir status`."""

from __future__ import annotations

from radir_pacs.catalogue.database import Connection, Database, run
from radir_pacs.catalogue.qido_matching import together
from radir_pacs.catalogue.qido_statements import of_scope
from radir_pacs.catalogue.rows import JobCount, Overview, ProcessRow
from radir_pacs.scopes import Scope
from radir_pacs.types import JobKind, JobState, StudyState


def overview(database: Database, scope: Scope) -> Overview:
    """Processes, studies by state, jobs by kind and state, encodings by model.

    Within a scope that restricts, the studies that it admits and the processes: other counts tell of foreign studies.
    """
    with database.transaction() as connection:
        if scope.restricts:
            return Overview(
                processes=tuple(ProcessRow(**row) for row in run(connection, "processes")),
                studies=_studies_within(connection, scope),
                jobs=(),
                encodings={},
                unread_reports={},
                refusals_last_day=0,
                waiting_reports=0,
                messages={},
                oldest_open_job_s=None,
            )
        jobs = tuple(
            JobCount(
                kind=JobKind(row["kind"]),
                state=JobState(row["state"]),
                count=row["n"],
                oldest_s=row["oldest_s"],
            )
            for row in run(connection, "count_jobs", kinds=list(JobKind))
        )
        refusals = run(connection, "count_refusals").fetchone()
        waiting = run(connection, "count_waiting_reports").fetchone()
        later = run(connection, "count_open_jobs_of_others", kinds=list(JobKind)).fetchone()
        return Overview(
            processes=tuple(ProcessRow(**row) for row in run(connection, "processes")),
            studies={StudyState(row["state"]): row["n"] for row in run(connection, "count_studies")},
            jobs=jobs,
            encodings={row["model_id"]: row["n"] for row in run(connection, "count_encodings")},
            unread_reports={row["language"]: row["n"] for row in run(connection, "count_unread_reports")},
            refusals_last_day=refusals["n"] if refusals else 0,
            waiting_reports=waiting["n"] if waiting else 0,
            jobs_of_later_release=later["n"] if later else 0,
            messages={row["outcome"]: row["n"] for row in run(connection, "count_messages")},
            oldest_open_job_s=max((job.oldest_s for job in jobs if job.oldest_s is not None), default=None),
        )


def _studies_within(connection: Connection, scope: Scope) -> dict[StudyState, int]:
    """Counts by columns and their indices; ``is_in_scope`` would be called for every study."""
    within = together(of_scope(scope))
    # Whether a study is withheld stands in its own row too.
    studies = "study_search AS k JOIN study AS s USING (study_uid)" if scope.confines else "study AS k"
    sql = f"SELECT state, count(*)::integer AS n FROM {studies} WHERE {within.sql} GROUP BY state"
    return {StudyState(row["state"]): row["n"] for row in connection.execute(sql.encode(), within.params)}
