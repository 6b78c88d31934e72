"""Radiologists' reports and what mining read from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.jobs import finish, hold
from radir_pacs.catalogue.part import Part
from radir_pacs.catalogue.rows import ReportRow
from radir_pacs.errors import NotFound
from radir_pacs.types import Job


class Reports(Part):
    def add_report(
        self,
        study_uid: str,
        *,
        body: str,
        source: str,
        sop_uid: str | None = None,
        findings: Any = None,
        parser: str | None = None,
        job: Job | None = None,
    ) -> int:
        """Keep a report, once; returns its id.

        findings: what mining read from it, when that is known already, with the version of the ``parser``. job: the
        report job that ends with it. Raises NotFound, LeaseLost.
        """
        values = {
            "study_uid": study_uid,
            "sop_uid": sop_uid,
            "source": source,
            "body": body,
            "content_sha256": hashlib.sha256(body.encode()).hexdigest(),
        }
        with self._database.transaction() as connection:
            if run(connection, "lock_study", study_uid=study_uid).fetchone() is None:
                raise NotFound(f"there is no study {study_uid}")
            if job is not None:
                hold(connection, job)
            row = run(connection, "add_report", values).fetchone() or run(connection, "report_id", values).fetchone()
            assert row is not None
            if findings is not None:
                run(connection, "save_findings", report_id=row["id"], findings=Jsonb(findings), parser=parser)
            run(connection, "note_report", study_uid=study_uid)
            if job is not None:
                finish(connection, job)
            return int(row["id"])

    def save_findings(self, report_id: int, findings: Any, parser: str) -> None:
        """What mining read, as JSON of its own; ``parser`` is its version. Raises NotFound."""
        values = {"report_id": report_id, "findings": Jsonb(findings), "parser": parser}
        with self._database.transaction() as connection:
            if run(connection, "save_findings", values).fetchone() is None:
                raise NotFound(f"there is no report {report_id}")

    def reports_of(self, study_uid: str) -> tuple[ReportRow, ...]:
        """Reports of a study, oldest first."""
        with self._database.transaction() as connection:
            return tuple(ReportRow(**row) for row in run(connection, "reports_of", study_uid=study_uid))

    def findings_of(self, study_uids: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """What mining read, one JSON value a report, oldest first; studies without a mined report are missing."""
        found: dict[str, tuple[Any, ...]] = {}
        with self._database.transaction() as connection:
            for row in run(connection, "findings_of", study_uids=list(study_uids)):
                found[row["study_uid"]] = (*found.get(row["study_uid"], ()), row["findings"])
        return found
