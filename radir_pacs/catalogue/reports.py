"""Radiologists' reports and what mining read from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.jobs import enqueue, finish, hold
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import MinedRow, ReportedStudy, ReportRow
from radir_pacs.errors import NotFound
from radir_pacs.types import Job, JobKind

_KEY = "report/"  # before the id of a stored text in the key of its job; no UID has a slash
PAGE = 100  # reports in memory at once: a text has at most a megabyte
Settle = Callable[[Sequence[MinedRow]], Mapping[int, Any]]  # what holds of each report of a study, by id


def report_key(report_id: int) -> str:
    """The key of the job that mines a stored text."""
    return f"{_KEY}{report_id}"


def report_id_of(key: str) -> int | None:
    """Which stored text a report job is about; None when it is about an SR, whose UID is the key."""
    return int(key.removeprefix(_KEY)) if key.startswith(_KEY) else None


class Reports(CataloguePart):
    def add(
        self,
        study_uid: str,
        *,
        body: str,
        source: str,
        sop_uid: str | None = None,
        findings: Any = None,
        parser: str | None = None,
        unread_language: str | None = None,
        predecessors: Sequence[str] = (),
        draft: bool = False,
        job: Job | None = None,
    ) -> int:
        """Keep a report, once; returns its id.

        findings: what mining read from it, when that is known already, with the version of the ``parser``.
        predecessors: SOP Instance UIDs of the documents that it replaces, whether they come before or after it. draft:
        any report of the same source that is none replaces it. job: the report job that ends with it.
        Raises NotFound, LeaseLost.
        """
        values = _values(study_uid, body, source, sop_uid) | {"predecessors": list(predecessors), "draft": draft}
        with self._database.transaction() as connection:
            if run(connection, "lock_study", study_uid=study_uid).fetchone() is None:
                raise NotFound(f"there is no study {study_uid}")
            if job is not None:
                hold(connection, job)
            added = run(connection, "add_report", values).fetchone()
            if added is None and sop_uid is not None:
                run(connection, "renew_report", values)
                if predecessors:
                    run(connection, "say_again", values)
            row = added or run(connection, "report_id", values).fetchone()
            assert row is not None
            if findings is not None:
                mined = _mined(row["id"], findings, parser, unread_language)
                run(connection, "save_findings", mined, adds=False)
            run(connection, "settle_reports", study_uid=study_uid)
            run(connection, "note_report", study_uid=study_uid)
            if job is not None:
                finish(connection, job)
            return int(row["id"])

    def save_findings(
        self,
        report_id: int,
        findings: Any,
        parser: str,
        job: Job | None = None,
        *,
        adds: bool = False,
        settle: Settle | None = None,
        unread_language: str | None = None,
        note: str | None = None,
    ) -> None:
        """What mining read from one text, as JSON of its own; ``parser`` is its version, ``adds``: it is an addendum.

        settle: what then holds of the study's reports, read under the study's lock, so that of two jobs the later one
        sees what the earlier one read; without it each report's findings hold. job: the one that ends with it and
        ``note``. Raises NotFound, LeaseLost.
        """
        values = _mined(report_id, findings, parser, unread_language) | {"adds": adds}
        with self._database.transaction() as connection:
            if run(connection, "lock_study_of_report", report_id=report_id).fetchone() is None:
                raise NotFound(f"there is no report {report_id}")
            if job is not None:
                hold(connection, job)
            run(connection, "save_findings", values)
            if settle is not None:
                _settle(connection, report_id, settle)
            if job is not None:
                finish(connection, job, note)

    def mine_again(self, parser: str, limit: int = 1_000) -> int:
        """Enqueue the reports that a version other than ``parser`` mined; returns how many it found."""
        with self._database.transaction() as connection:
            values = {"parser": parser, "prefix": _KEY, "limit": limit}
            rows = run(connection, "reports_of_other_parsers", values).fetchall()
            for row in rows:
                enqueue(connection, JobKind.REPORT, row["key"], self._settings.job_max_attempts)
        return len(rows)

    def waits(self) -> bool:
        """Whether a report is being mined, or will be."""
        with self._database.transaction() as connection:
            row = run(connection, "report_waits").fetchone()
        return row is not None and bool(row["waits"])

    def get(self, report_id: int) -> ReportRow:
        """One report. Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "report", report_id=report_id).fetchone()
        if row is None:
            raise NotFound(f"there is no report {report_id}")
        return ReportRow(**row)

    def reported_studies(self, page: int = PAGE) -> Iterator[ReportedStudy]:
        """Every complete study with a report that is not skipped or quarantined, with the newest report, by UID.

        A page is one transaction and all that is in memory; a study that comes or goes meanwhile may be missed.
        """
        after = ""
        while True:
            with self._database.transaction() as connection:
                rows = run(connection, "reported_studies", after=after, limit=page).fetchall()
            for row in rows:
                yield ReportedStudy(**(row | {"modalities": tuple(row["modalities"])}))
            if len(rows) < page:
                return
            after = rows[-1]["study_uid"]

    def of_study(self, study_uid: str) -> tuple[ReportRow, ...]:
        """Reports of a study that no other one replaces, oldest first."""
        with self._database.transaction() as connection:
            return tuple(ReportRow(**row) for row in run(connection, "reports_of", study_uid=study_uid))


def _settle(connection: Connection, report_id: int, settle: Settle) -> None:
    rows = run(connection, "mined_reports", report_id=report_id).fetchall()
    held = settle([MinedRow(id=row["id"], mined=row["mined"], adds=row["adds"]) for row in rows])
    for row in rows:
        if row["findings"] != held[row["id"]]:
            run(connection, "settle_findings", report_id=row["id"], findings=Jsonb(held[row["id"]]))


def _mined(report_id: int, findings: Any, parser: str | None, unread_language: str | None) -> dict[str, Any]:
    return {
        "report_id": report_id,
        "findings": Jsonb(findings),
        "parser": parser,
        "unread_language": unread_language,
    }


def _values(study_uid: str, body: str, source: str, sop_uid: str | None = None) -> dict[str, Any]:
    """A report's columns; the same text of one study is one report."""
    return {
        "study_uid": study_uid,
        "sop_uid": sop_uid,
        "source": source,
        "body": body,
        "content_sha256": hashlib.sha256(body.encode()).hexdigest(),
    }
