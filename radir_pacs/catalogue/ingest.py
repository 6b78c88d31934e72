"""Taking instances in: one effect for the same input (P2), one transaction for the row and the work that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.part import Part
from radir_pacs.catalogue.rows import Refusal, Stored
from radir_pacs.errors import Conflict, StorageFailed
from radir_pacs.types import InstanceHeader, JobKind

# Basic Text, Enhanced and Comprehensive SR (PS3.4 B.5). Whether one is a radiologist's report the report job sees.
REPORT_SOP_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33"}
)


_INSERT_TRIES = 3


class _Overtaken(Exception):
    """Another transaction stored the same UID while ours waited."""


class Ingest(Part):
    def add_instance(
        self, header: InstanceHeader, *, content_sha256: str, size_bytes: int, source: str, wakes: bool = True
    ) -> Stored:
        """Store one instance whose blob is durable already.

        A new image (an object with rows of pixels) raises the study's revision and re-opens the study; other objects
        join without re-opening it. ``wakes`` False, for objects of our own making: no work follows, whatever it is.
        Raises Conflict when the UID stands there with other content or another parent; nothing is changed then.
        """
        values = {field.name: getattr(header, field.name) for field in fields(header)}
        values.update(
            is_image=wakes and header.rows_px is not None,
            attributes=Jsonb(dict(header.attributes)),
            content_sha256=content_sha256,
            size_bytes=size_bytes,
            source=source,
        )
        for _ in range(_INSERT_TRIES):
            try:
                with self._database.transaction() as connection:
                    if _stands_already(connection, header, content_sha256):
                        return Stored.SAME
                    self._add(connection, header, values, wakes)
                    return Stored.STORED
            except _Overtaken:
                continue
        raise StorageFailed(f"instance {header.sop_uid} comes and goes")

    def _add(self, connection: Connection, header: InstanceHeader, values: dict[str, object], wakes: bool) -> None:
        run(connection, "receive_study", values)
        run(connection, "receive_series", values)
        parent = run(connection, "study_of_series", values).fetchone()
        if parent is None or parent["study_uid"] != header.study_uid:
            raise Conflict(f"series {header.series_uid} belongs to another study")
        if run(connection, "receive_instance", values).fetchone() is None:
            raise _Overtaken
        if wakes and header.sop_class_uid in REPORT_SOP_CLASSES:
            enqueue(connection, JobKind.REPORT, header.sop_uid, self._settings.job_max_attempts)

    def add_refusal(self, sop_uid: str | None, reason: str, dimse_status: int | None, source: str) -> None:
        """Note what was refused. ``reason`` names no patient."""
        with self._database.transaction() as connection:
            run(connection, "add_refusal", sop_uid=sop_uid, reason=reason, dimse_status=dimse_status, source=source)

    def refusals(self, limit: int = 100) -> tuple[Refusal, ...]:
        """What was refused, the newest first."""
        with self._database.transaction() as connection:
            return tuple(Refusal(**row) for row in run(connection, "refusals", limit=limit))

    def prune_refusals(self, *, keep_s: float, most: int) -> int:
        """Forget refusals older than ``keep_s``, and all but about the newest ``most``; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "prune_refusals", keep_s=keep_s, most=most).rowcount

    def known_blobs(self, hashes: Sequence[str]) -> frozenset[str]:
        """Which of these blobs belong to an instance."""
        with self._database.transaction() as connection:
            rows = run(connection, "known_blobs", hashes=list(hashes)).fetchall()
        return frozenset(row["content_sha256"] for row in rows)


def _stands_already(connection: Connection, header: InstanceHeader, content_sha256: str) -> bool:
    row = run(connection, "instance_identity", sop_uid=header.sop_uid).fetchone()
    if row is None:
        return False
    if row["content_sha256"] != content_sha256:
        raise Conflict(f"instance {header.sop_uid} is stored already with other content")
    if (row["study_uid"], row["series_uid"]) != (header.study_uid, header.series_uid):
        raise Conflict(f"instance {header.sop_uid} is stored already under another series")
    return True
