"""The audit trail: who saw which patient, who did what. Events are only ever added, and sealed in a chain of hashes.

Each seal is the SHA-256 of the seal before and of its events, so that an event that was changed or removed breaks the
chain from there on. Whoever owns the database could compute all later seals anew, or cut off the end: that shows
against a digest that was kept elsewhere. The relay logs one every hour, and `verify` looks for the one it is given.

An event is committed before the answer that it is about is sent, without waiting for the disk: what a crash of the
database server itself loses are the events of its last 0.6 seconds (three times ``wal_writer_delay``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import orjson

from radir_pacs import durable
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue.access_rows import AuditRow, Chain, Seal
from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import BadInput

MOST_PER_SEAL = 1000
_SEALS_AT_ONCE = 50
_SEALED = ("id", "at", "event", "caller", "role", "address", "study_uid", "patient_keys", "detail")
_NOTHING_BEFORE = bytes(32)

Detail = Mapping[str, str | int | None]


class Audit(CataloguePart):
    def note(self, event: AuditEvent, caller: Caller, study_uid: str | None = None, **detail: str | int | None) -> None:
        """Record one event, about a study or none."""
        with self._database.pipeline() as connection:
            run(connection, "without_waiting")
            note(connection, event, caller, study_uid, detail)

    def note_read(self, caller: Caller, *, study_uid: str | None, patient_id: str | None) -> None:
        """Record that somebody looks into the trail, and about whom."""
        with self._database.transaction() as connection:
            keys = None
            if patient_id is not None:
                keys = [patient_id if "\\" in patient_id else "\\" + patient_id]
            note(connection, AuditEvent.AUDIT_READ, caller, study_uid, patient_keys=keys)

    def note_studies(
        self, event: AuditEvent, caller: Caller, study_uids: Sequence[str], **detail: str | int | None
    ) -> int:
        """Record one event for each of these studies that is here; returns how many are."""
        values = _values(caller, detail) | {"event": event, "study_uids": list(study_uids)}
        with self._database.pipeline() as connection:
            run(connection, "without_waiting")
            noted = run(connection, "note_studies", values)
        return noted.rowcount

    def events(
        self,
        *,
        caller: str | None = None,
        study_uid: str | None = None,
        patient_id: str | None = None,
        event: AuditEvent | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = 1000,
        before: int | None = None,
    ) -> tuple[AuditRow, ...]:
        """Events that match all that is given, newest first; the next page begins ``before`` the last one's id.

        patient_id: as it is written, of any issuer that studies here name, or issuer and id with a backslash between;
        and what it was merged with.
        """
        values: dict[str, Any] = {"caller": caller, "study_uid": study_uid, "event": event, "most": most}
        values |= {"since": since, "until": until, "before": before}
        with self._database.transaction() as connection:
            if patient_id is None:
                return tuple(audit_row(row) for row in run(connection, "audit_events", values))
            keys = [patient_id]
            if "\\" not in patient_id:
                keys = [row["key"] for row in run(connection, "keys_of_patient_id", patient_id=patient_id)]
            return tuple(
                audit_row(row) for row in run(connection, "audit_events_of_patient", values, patient_keys=keys)
            )

    def seal(self) -> int:
        """Seal the oldest events that are not sealed yet, and return how many; 0 while another process seals.

        An event of a transaction that ends late is sealed later than its id tells; the order in the seal is by id.
        """
        with self._database.transaction() as connection:
            mine = run(connection, "lock_audit").fetchone()
            if mine is None or not mine["is_mine"]:
                return 0
            events = run(connection, "unsealed_events", most=MOST_PER_SEAL).fetchall()
            if not events:
                return 0
            last = run(connection, "last_seal").fetchone()
            number, before = (last["id"], last["digest"]) if last is not None else (0, _NOTHING_BEFORE)
            digest = _digest(before, events)
            run(connection, "add_seal", id=number + 1, events=len(events), digest=digest)
            run(connection, "seal_events", seal=number + 1, ids=[event["id"] for event in events])
        return len(events)

    def last_seal(self) -> Seal | None:
        """The newest seal; None before the first."""
        with self._database.transaction() as connection:
            row = run(connection, "last_seal").fetchone()
        return Seal(number=row["id"], digest=row["digest"].hex()) if row is not None else None

    def retire(self, before: datetime, file: BinaryIO, *, by: Caller) -> int:
        """Move the oldest events, all before a time, from the table into ``file``; returns how many.

        A line of JSON per seal, with its events: `verify` reads it. Only whole seals, from the first on, go; the file
        is on the disk before an event leaves the table. What a receiver (`audit_receivers`) does not have yet stays.
        Raises BadInput where nothing goes for that reason, and where the chain is broken in what should go.
        """
        digest, last, count, first = _NOTHING_BEFORE, 0, 0, 0
        written = hashlib.sha256()
        with self._database.transaction() as connection:
            received = run(connection, "audit_sent_up_to").fetchone()
        for seal, covered in self._chain():
            if seal["retired_at"] is None:
                if covered and max(event["at"] for event in covered) >= before:
                    break
                if received is not None and seal["id"] > received["seal"]:
                    if not last:
                        raise BadInput(
                            "a receiver of the trail lacks these events, and nothing is retired: radir status"
                        )
                    break
                if len(covered) != seal["events"] or _digest(digest, covered) != seal["digest"]:
                    raise BadInput(
                        f"the trail is broken at seal {seal['id']}: nothing is retired; see radir audit verify"
                    )
                line = orjson.dumps({"seal": seal["id"], "events": covered}, option=orjson.OPT_APPEND_NEWLINE)
                file.write(line)
                written.update(line)
                first, last, count = first or seal["id"], seal["id"], count + len(covered)
            digest = seal["digest"]
        if not last:
            return 0
        file.flush()
        durable.sync(Path(file.name))
        durable.sync(Path(file.name).parent)
        detail: Detail = {"first": first, "last": last, "events": count, "sha256": written.hexdigest()}
        with self._database.transaction() as connection:
            note(connection, AuditEvent.AUDIT_RETIRED, by, detail=detail)
        for start in range(first, last + 1, _SEALS_AT_ONCE):
            span = {"first": start, "last": min(last, start + _SEALS_AT_ONCE - 1)}
            with self._database.transaction() as connection:
                run(connection, "retire_seals", span)
                run(connection, "drop_retired", span)
        return count

    def verify(
        self,
        expected: str | None = None,
        progress: Callable[[int], None] = lambda seals: None,
        exports: Iterable[BinaryIO] = (),
    ) -> Chain:
        """Compute the chain anew. ``expected``: a digest (hex) noted earlier, which must be in it.

        progress: is told how many seals are done. exports: what `retire` wrote, whose events are then computed too. A
        seal without its events breaks the chain, unless an event that `retire` left says that they were exported.
        """
        exported = {told["seal"]: told["events"] for file in exports for told in map(orjson.loads, file)}
        with self._database.transaction() as connection:
            open_end = run(connection, "count_unsealed").fetchone()
            retired_up_to = run(connection, "retired_up_to").fetchone()
        assert open_end is not None and retired_up_to is not None
        retired = 0
        before, seals, events, newest, is_found, broken_at = _NOTHING_BEFORE, 0, 0, None, expected is None, None
        for seal, covered in self._chain():
            number = seals + 1
            is_retired = seal["retired_at"] is not None and not covered and number <= retired_up_to["last"]
            if is_retired and number in exported:
                covered = [{**event, "at": datetime.fromisoformat(event["at"])} for event in exported[number]]
            elif is_retired:
                retired += 1
            is_taken = is_retired and number not in exported
            fits = is_taken or (len(covered) == seal["events"] and _digest(before, covered) == seal["digest"])
            if seal["id"] != number or not fits:
                broken_at = number
                break
            before, newest = seal["digest"], seal["sealed_at"]
            seals, events = seals + 1, events + len(covered)
            is_found = is_found or before.hex() == expected
            progress(seals)
        return Chain(
            seals=seals,
            events=events,
            digest=before.hex(),
            sealed_at=newest,
            broken_at=broken_at,
            found=is_found and broken_at is None,
            retired=retired,
            **open_end,
        )

    def _chain(self) -> Iterator[tuple[Row, list[Row]]]:
        """Each seal with the events that it covers."""
        after = 0
        while True:
            with self._database.transaction() as connection:
                seals = run(connection, "seals", after=after, most=_SEALS_AT_ONCE).fetchall()
                if not seals:
                    return
                span = {"first": seals[0]["id"], "last": seals[-1]["id"]}
                rows = run(connection, "events_of_seals", span).fetchall()
            covered = {number: list(group) for number, group in groupby(rows, key=lambda row: row["seal"])}
            for seal in seals:
                yield seal, covered.get(seal["id"], [])
            after = seals[-1]["id"]


def note(
    connection: Connection,
    event: AuditEvent,
    caller: Caller,
    study_uid: str | None = None,
    detail: Detail = MappingProxyType({}),
    patient_keys: Sequence[str] | None = None,
) -> None:
    """Record one event within a transaction; its patients are those of the study, unless they are named."""
    keys = None if patient_keys is None else list(patient_keys)
    run(connection, "note_event", _values(caller, detail), event=event, study_uid=study_uid, patient_keys=keys)


def noted(caller: Caller | None, detail: Detail) -> dict[str, object]:
    """The parameters of a statement that records an event by itself; without a caller it records none."""
    return _values(caller, detail) if caller is not None else dict.fromkeys(("caller", "role", "address", "detail"))


def _values(caller: Caller, detail: Detail) -> dict[str, object]:
    kept = {name: value for name, value in detail.items() if value is not None}
    return {"caller": caller.name, "role": caller.role, "address": caller.address, "detail": json.dumps(kept)}


def audit_row(row: Row) -> AuditRow:
    return AuditRow(**{**row, "event": AuditEvent(row["event"]), "role": Role(row["role"])})


def _digest(before: bytes, events: Sequence[Row]) -> bytes:
    """What seals these events, each as one line of JSON with its keys in order and its time in UTC."""
    made = hashlib.sha256(before)
    for event in events:
        told = {name: event[name] for name in _SEALED}
        told["at"] = event["at"].astimezone(UTC).isoformat(timespec="microseconds")
        made.update(json.dumps(told, sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return made.digest()
