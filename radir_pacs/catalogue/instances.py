"""Storing instances: one effect for the same input (P2), one transaction for the row and the work that follows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date
from typing import Any

from cachetools import LRUCache
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import LOCK_TIMEOUT_MS, Database, Row, run
from radir_pacs.catalogue.group_commit import GroupCommit, Prepared
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.names import folded
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import NotedInstance, Stored, StoredInstance
from radir_pacs.catalogue.study_parts import in_parts
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, Conflict, DatabaseAway, Differs, NotFound, StorageFailed
from radir_pacs.reasons import MENDED_BY_SENDING
from radir_pacs.types import HeaderNote, InstanceHeader, JobKind

log = logging.getLogger(__name__)

# Structured reports that carry text (PS3.4 B.5): Basic Text, Enhanced, Comprehensive, Comprehensive 3D, Extensible; and
# documents: encapsulated PDF and CDA. Whether one is a radiologist's report the report job sees.
REPORT_SOP_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("88.11", "88.22", "88.33", "88.34", "88.35", "104.1", "104.2")
)


_COLUMNS = tuple(field.name for field in fields(InstanceHeader))
_INSERT_TRIES = 5
_MOST_HEADERS = 5_000  # in memory at once: some kilobytes each
_MOST_AT_ONCE = 64  # instances in one transaction
_SERIES_KEPT = 1024
_FEW_ARE_QUICKER = 2  # one alone takes the database as long either way
_BRIEFLY_MS = 200  # how long a group waits for a study that another process works on; then each instance waits alone


class Overtaken(Exception):
    """Another transaction changed the instance meanwhile."""


class _Arrival(Prepared):
    """An instance to store, with its columns. ``durable`` makes its file durable."""

    def __init__(
        self, header: InstanceHeader, values: Mapping[str, Any], *, wakes: bool, durable: Callable[[], object]
    ) -> None:
        super().__init__(durable)
        self.header, self.values = header, values
        self.follow_up = JobKind.REPORT if wakes and header.sop_class_uid in REPORT_SOP_CLASSES else None
        self.plain = _plain(values)

    @property
    def locks(self) -> tuple[str, str, str]:
        """What its transaction locks, in the order of schema.sql: sorted by this, no two groups wait for each other."""
        return self.header.study_uid, self.header.series_uid, self.header.sop_uid


_Outcome = Stored | Conflict | None  # None: it must be tried again, alone


class Instances(CataloguePart):
    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database, settings)
        self._group: GroupCommit[_Arrival, _Outcome] = GroupCommit(self._add_group, most=_MOST_AT_ONCE)
        self._arriving: LRUCache[str, None] = LRUCache(_SERIES_KEPT)  # series with new instances; of who leads a group

    def add(
        self,
        header: InstanceHeader,
        *,
        content_sha256: str,
        size_bytes: int,
        source: str,
        site: str | None = None,
        wakes: bool = True,
        durable: Callable[[], object] = lambda: None,
    ) -> Stored:
        """Store one instance whose blob has its name; ``durable`` makes it durable, once, before anything is committed.

        A new image (an object with rows of pixels) raises the study's revision and re-opens the study; other objects
        are added without re-opening it. ``wakes`` False, for objects of our own making: no work follows.
        site: the label of the sender's site; None: ``source`` stands for it.
        Raises Differs when the UID is stored with another file, Conflict when with another parent or class; nothing
        is changed then. Threads that store at the same time share a transaction.
        """
        values = values_of(header, content_sha256, size_bytes, source)
        values["site"] = (site or source) if wakes else None  # what is of our own making comes from nowhere
        values["is_image"] = wakes and header.rows_px is not None
        arrival = _Arrival(header, values, wakes=wakes, durable=durable)
        outcome = None if arrival.follow_up is not None else self._group(arrival)
        for _ in range(_INSERT_TRIES):
            if outcome is not None:
                break
            outcome = self._add_alone(arrival)
        if outcome is None:
            raise StorageFailed(f"instance {header.sop_uid} comes and goes")
        if isinstance(outcome, Conflict):
            raise outcome
        if outcome is Stored.SAME:
            self.came_again(header.study_uid, content_sha256)
        return outcome

    def _add_group(self, arrivals: Sequence[_Arrival]) -> list[_Outcome]:
        """What became of each. One that fails, or whose study is locked for long, does so on its own afterwards."""
        outcomes: dict[_Arrival, _Outcome] = dict.fromkeys(sorted(arrivals, key=lambda arrival: arrival.locks))
        likely = {one.header.sop_uid: one for one in outcomes if one.header.series_uid in self._arriving}
        try:
            if len(likely) >= _FEW_ARE_QUICKER:
                outcomes.update(self._add_plain(list(likely.values())))
            outcomes.update(self._add_each([one for one, outcome in outcomes.items() if outcome is None]))
        except DatabaseAway:
            raise
        except (StorageFailed, BadInput, UniqueViolation) as error:
            log.debug("what is left of a group is stored one by one", extra={"error": type(error).__name__})
        for one, outcome in outcomes.items():
            if outcome is Stored.STORED:
                self._arriving[one.header.series_uid] = None
            else:  # sent again, as the rest of its series will be
                self._arriving.pop(one.header.series_uid, None)
        return [outcomes[one] for one in arrivals]

    def _add_plain(self, ordered: Sequence[_Arrival]) -> dict[_Arrival, _Outcome]:
        """Those that are new and tell nothing new of their study, in one statement: most are. Only what it stored."""
        with self._database.pipeline() as connection:
            arrivals = Jsonb([arrival.plain for arrival in ordered])
            cursor = run(connection, "receive_more", arrivals=arrivals, lock_timeout_ms=_BRIEFLY_MS)
            for arrival in ordered:
                arrival.done()  # the server is at work meanwhile
        stored = {row["sop_uid"] for row in cursor}
        return {arrival: Stored.STORED for arrival in ordered if arrival.header.sop_uid in stored}

    def _add_each(self, ordered: Sequence[_Arrival]) -> dict[_Arrival, _Outcome]:
        """What became of each, by a statement of its own."""
        if not ordered:
            return {}
        with self._database.pipeline() as connection:
            cursors = [
                run(connection, "receive", arrival=Jsonb(arrival.plain), lock_timeout_ms=_BRIEFLY_MS)
                for arrival in ordered
            ]
            for arrival in ordered:
                arrival.done()
        return {one: _outcome(cursor.fetchone(), one) for one, cursor in zip(ordered, cursors, strict=True)}

    def _add_alone(self, arrival: _Arrival) -> _Outcome:
        """With what follows in the same transaction. None: another transaction was faster."""
        arrival.done()
        try:
            with self._database.transaction() as connection:
                found = run(connection, "receive", arrival=Jsonb(arrival.plain), lock_timeout_ms=LOCK_TIMEOUT_MS)
                outcome = _outcome(found.fetchone(), arrival)
                if outcome is Stored.STORED and arrival.follow_up is not None:
                    enqueue(connection, arrival.follow_up, arrival.header.sop_uid, self._settings.job_max_attempts)
        except UniqueViolation:
            return None
        return outcome

    def came_again(self, study_uid: str, content_sha256: str) -> None:
        """The same instance came, written otherwise: a study in which only the machine failed is opened again."""
        values = {"study_uid": study_uid, "content_sha256": content_sha256}
        with self._database.transaction() as connection:
            run(connection, "study_has_files", values)
            run(connection, "received_again", values, reason_codes=sorted(MENDED_BY_SENDING))

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
        return tuple((header, row["content_sha256"]) for header, row in self._headers([study_uid]))

    def headers_of_each(self, study_uids: Sequence[str]) -> Iterator[tuple[str, list[InstanceHeader]]]:
        """For each of many studies the headers of its instances, which may be none; few studies in memory."""
        for part in in_parts(self._database, study_uids, _MOST_HEADERS):
            found: dict[str, list[InstanceHeader]] = {study_uid: [] for study_uid in part}
            for header, _ in self._headers(part):
                found[header.study_uid].append(header)
            yield from found.items()

    def _headers(self, study_uids: Sequence[str]) -> Iterator[tuple[InstanceHeader, Row]]:
        with self._database.transaction() as connection:
            rows = run(connection, "headers_of", study_uids=list(study_uids)).fetchall()
        for row in rows:
            yield InstanceHeader(**{name: _of_header(row[name]) for name in _COLUMNS}), row

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
    values = {name: getattr(header, name) for name in _COLUMNS}
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


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns as JSON has them, to travel as one parameter: forty take psycopg as long as all the rest."""
    plain = {name: found.isoformat() if isinstance(found, date) else found for name, found in values.items()}
    return plain | {"attributes": values["attributes"].obj}


def folded_names(values: Mapping[str, Any]) -> dict[str, str | None]:
    """The folded names among ``values``, as columns."""
    names = ("patient_name", "referring_physician")
    return {f"{name}_folded": None if values[name] is None else folded(values[name]) for name in names}


def _outcome(row: Row | None, arrival: _Arrival) -> Stored | Conflict:
    """What became of an instance, from what stood already when it came."""
    assert row is not None
    header, content_sha256 = arrival.header, arrival.values["content_sha256"]
    if row["content_sha256"] is None:
        if row["study_of_series"] in (None, header.study_uid):
            return Stored.STORED
        return Conflict("the series is stored already in another study")
    if (row["study_uid"], row["series_uid"]) != (header.study_uid, header.series_uid):
        return Conflict("the instance is stored already in another series")
    if row["sop_class_uid"] != header.sop_class_uid:
        return Conflict("the instance is stored already as another SOP class")
    if row["content_sha256"] != content_sha256 and not row["known"]:
        return Differs(row["content_sha256"])
    return Stored.SAME


def _of_header(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def instance_of(row: Row) -> StoredInstance:
    """An instance from its row."""
    return StoredInstance(**{name: row[name] for name in StoredInstance.__dataclass_fields__})
