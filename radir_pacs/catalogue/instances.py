"""Storing instances: one effect for the same input (P2), one transaction for the row and the work that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.names import folded
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import NotedInstance, Stored, StoredInstance
from radir_pacs.errors import Conflict, Differs, NotFound, StorageFailed
from radir_pacs.reasons import MENDED_BY_SENDING
from radir_pacs.types import HeaderNote, InstanceHeader, JobKind

# Structured reports that carry text (PS3.4 B.5): Basic Text, Enhanced, Comprehensive, Comprehensive 3D, Extensible; and
# documents: encapsulated PDF and CDA. Whether one is a radiologist's report the report job sees.
REPORT_SOP_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("88.11", "88.22", "88.33", "88.34", "88.35", "104.1", "104.2")
)

_INSERT_TRIES = 3


class Overtaken(Exception):
    """Another transaction stored the same UID while ours waited."""


class Instances(CataloguePart):
    def add(
        self, header: InstanceHeader, *, content_sha256: str, size_bytes: int, source: str, wakes: bool = True
    ) -> Stored:
        """Store one instance whose blob is durable already.

        A new image (an object with rows of pixels) raises the study's revision and re-opens the study; other objects
        are added without re-opening it. ``wakes`` False, for objects of our own making: no work follows.
        Raises Differs when the UID is stored with another file, Conflict when with another parent or class; nothing
        is changed then.
        """
        values = values_of(header, content_sha256, size_bytes, source)
        values["is_image"] = wakes and header.rows_px is not None
        for _ in range(_INSERT_TRIES):
            try:
                with self._database.transaction() as connection:
                    if _stands_already(connection, header, content_sha256):
                        run(connection, "received_again", values, reason_codes=sorted(MENDED_BY_SENDING))
                        return Stored.SAME
                    self._add(connection, header, values, wakes)
                    return Stored.STORED
            except Overtaken:
                continue
        raise StorageFailed(f"instance {header.sop_uid} comes and goes")

    def came_again(self, study_uid: str, content_sha256: str) -> None:
        """The same instance came, written otherwise: a study in which only the machine failed is opened again."""
        values = {"study_uid": study_uid, "content_sha256": content_sha256}
        with self._database.transaction() as connection:
            run(connection, "received_again", values, reason_codes=sorted(MENDED_BY_SENDING))

    def _add(self, connection: Connection, header: InstanceHeader, values: dict[str, object], wakes: bool) -> None:
        run(connection, "receive_study", values)
        run(connection, "receive_series", values)
        parent = run(connection, "study_of_series", values).fetchone()
        if parent is None or parent["study_uid"] != header.study_uid:
            raise Conflict("the series is stored already in another study")
        if run(connection, "receive_instance", values).fetchone() is None:
            raise Overtaken
        if wakes and header.sop_class_uid in REPORT_SOP_CLASSES:
            enqueue(connection, JobKind.REPORT, header.sop_uid, self._settings.job_max_attempts)

    def known_blobs(self, hashes: Sequence[str]) -> frozenset[str]:
        """Which of these blobs belong to an instance."""
        with self._database.transaction() as connection:
            rows = run(connection, "known_blobs", hashes=list(hashes)).fetchall()
        return frozenset(row["content_sha256"] for row in rows)

    def of_study(self, study_uid: str, series_uid: str | None = None) -> tuple[StoredInstance, ...]:
        """Instances of a study or one series, by series and instance number; empty when there are none."""
        with self._database.transaction() as connection:
            rows = run(connection, "instances_of", study_uid=study_uid, series_uid=series_uid).fetchall()
        return tuple(instance_of(row) for row in rows)

    def sop_uids_of(self, study_uid: str) -> list[str]:
        """The SOP Instance UIDs held of a study, ascending; empty when there are none."""
        with self._database.transaction() as connection:
            return [row["sop_uid"] for row in run(connection, "sop_uids_of", study_uid=study_uid)]

    def headers_of(self, study_uid: str) -> tuple[tuple[InstanceHeader, str], ...]:
        """(header, content_sha256) of a study's instances, as `radir_pacs.dicom.plan_study` reads them.

        Patient and study attributes are those of the study row: the first instance that knew them set them.
        """
        with self._database.transaction() as connection:
            rows = run(connection, "headers_of", study_uid=study_uid).fetchall()
        return tuple(
            (
                InstanceHeader(**{field.name: _of_header(row[field.name]) for field in fields(InstanceHeader)}),
                row["content_sha256"],
            )
            for row in rows
        )

    def content_of(self, study_uid: str) -> str:
        """A text that identifies the study's files: equal for equal files, and cheap to query."""
        with self._database.transaction() as connection:
            row = run(connection, "content_of", study_uid=study_uid).fetchone()
        return str(row["content"]) if row is not None else ""

    def noted(self, limit: int = 100) -> tuple[NotedInstance, ...]:
        """Instances that were stored although their files were odd, the newest first."""
        with self._database.transaction() as connection:
            rows = run(connection, "noted_instances", limit=limit).fetchall()
        return tuple(NotedInstance(**(row | {"notes": tuple(map(HeaderNote, row["notes"]))})) for row in rows)

    def get(self, sop_uid: str) -> StoredInstance:
        """Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "instance", sop_uid=sop_uid).fetchone()
        if row is None:
            raise NotFound(f"there is no instance {sop_uid}")
        return instance_of(row)


def values_of(header: InstanceHeader, content_sha256: str, size_bytes: int, source: str) -> dict[str, Any]:
    """The columns of an instance, its series and its study."""
    values = {field.name: getattr(header, field.name) for field in fields(header)}
    keys = header.patient_keys or ((header.patient_key,) if header.patient_key else ())
    return values | {
        "patient_keys": list(keys),
        **folded_names(values),
        "notes": [note.value for note in header.notes],
        "attributes": Jsonb(dict(header.attributes)),
        "content_sha256": content_sha256,
        "size_bytes": size_bytes,
        "source": source,
    }


def folded_names(values: Mapping[str, Any]) -> dict[str, str | None]:
    """The folded names among ``values``, as columns."""
    names = ("patient_name", "referring_physician")
    return {f"{name}_folded": None if values[name] is None else folded(values[name]) for name in names}


def _stands_already(connection: Connection, header: InstanceHeader, content_sha256: str) -> bool:
    row = run(connection, "instance_identity", sop_uid=header.sop_uid, content_sha256=content_sha256).fetchone()
    if row is None:
        return False
    if (row["study_uid"], row["series_uid"]) != (header.study_uid, header.series_uid):
        raise Conflict("the instance is stored already in another series")
    if row["sop_class_uid"] != header.sop_class_uid:
        raise Conflict("the instance is stored already as another SOP class")
    if row["content_sha256"] != content_sha256 and not row["known"]:
        raise Differs(row["content_sha256"])
    return True


def _of_header(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def instance_of(row: Row) -> StoredInstance:
    """An instance from its row."""
    return StoredInstance(**{name: row[name] for name in StoredInstance.__dataclass_fields__})
