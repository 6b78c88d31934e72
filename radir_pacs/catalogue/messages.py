"""HL7 messages: all that one says in one transaction, with the answer; the same one again gets the same answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import patients, report_versions
from radir_pacs.catalogue.audit import note
from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.incoming import (
    Answered,
    Deed,
    KeptMessage,
    Message,
    OrderLink,
    Outcome,
    PatientMerge,
    PatientUpdate,
    ReportVersion,
    Verdict,
)
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import Received
from radir_pacs.errors import NotFound
from radir_pacs.reasons import ReasonCode

MOST_KEPT_BYTES = 1 << 30  # of all messages that are kept


class Messages(CataloguePart):
    def take(self, message: Message, deeds: Sequence[Deed], verdict: Verdict) -> Answered:
        """Do what a message says, once, and note the answer; when this returns both are durable.

        The message is kept whole where ``verdict`` is not AA; one that was kept may be sent again, as after a setting
        was changed. Raises BadInput for a value that cannot be stored.
        """
        names = {
            "sender": message.sender,
            "control_id": message.control_id,
            "content_sha256": hashlib.sha256(message.body).hexdigest(),
        }
        kept = verdict.answer != "AA"
        values = names | {
            "kind": message.kind,
            "answer": verdict.answer,
            "reason": verdict.reason,
            "reason_code": verdict.reason_code,
            "error_code": verdict.error_code,
            "error_at": verdict.error_at,
            "body": message.body if kept else None,
        }
        with self._database.transaction() as connection:
            if run(connection, "add_message", values).fetchone() is None:
                row = run(connection, "message_again", names).fetchone()
                assert row is not None
                if row["outcome"] != Outcome.KEPT:
                    return _answered(row, again=True)
            received = [self._do(connection, deed) for deed in deeds]
            if kept:
                outcome = Outcome.KEPT
            elif Received.WAITING in received:
                outcome = Outcome.WAITING
            else:
                outcome = Outcome.STORED if received else Outcome.DONE
            run(connection, "message_outcome", values, outcome=outcome)
            if not kept:
                _note(connection, message, deeds)
        return Answered(outcome=outcome, verdict=verdict)

    def _do(self, connection: Connection, deed: Deed) -> Received | None:
        match deed:
            case PatientMerge():
                patients.apply_merge(connection, deed)
            case PatientUpdate():
                patients.apply_update(connection, deed)
            case OrderLink():
                values = {"numbers": list(deed.numbers), "study_uid": deed.study_uid}
                if deed.ended:
                    run(connection, "end_order", values)
                else:
                    run(connection, "link_order", values)
                    run(connection, "want_ordered_reports", values)
            case _:
                return report_versions.receive(connection, self._settings, deed)
        return None

    def kept(self, limit: int = 100) -> tuple[KeptMessage, ...]:
        """Messages that could not be used, the newest first."""
        with self._database.transaction() as connection:
            rows = run(connection, "kept_messages", limit=limit).fetchall()
        return tuple(KeptMessage(**(row | {"reason_code": ReasonCode(row["reason_code"])})) for row in rows)

    def body(self, message_id: int) -> bytes:
        """A message that was kept, as it came. Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "kept_message", id=message_id).fetchone()
        if row is None:
            raise NotFound(f"no message {message_id} is kept")
        return bytes(row["body"])

    def drop(self, message_id: int | None = None) -> int:
        """Take one message, or all, off the list of those kept; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "drop_kept", id=message_id).rowcount

    def prune(self, *, answered_s: float, kept_s: float) -> int:
        """Forget answers older than ``answered_s``, kept messages older than ``kept_s`` or too many to keep."""
        with self._database.transaction() as connection:
            values = {"answered_s": answered_s, "kept_s": kept_s, "most_bytes": MOST_KEPT_BYTES}
            return run(connection, "prune_messages", values).rowcount


def _note(connection: Connection, message: Message, deeds: Sequence[Deed]) -> None:
    """Record what a message did to which patients; orders tell of a study that is not here yet."""
    by = Caller(name=message.sender, role=Role.PEER)
    for deed in deeds:
        match deed:
            case PatientMerge():
                keys = [key for pair in deed.pairs for key in pair]
                note(connection, AuditEvent.MERGED, by, detail={"message": message.kind}, patient_keys=keys)
            case PatientUpdate():
                note(connection, AuditEvent.MERGED, by, detail={"message": message.kind}, patient_keys=deed.keys)
            case ReportVersion():
                detail = {"message": message.kind, "status": deed.status}
                note(connection, AuditEvent.STORED, by, deed.study_uid, detail, patient_keys=deed.patient_keys or None)


def _answered(row: Row, *, again: bool) -> Answered:
    code = row["reason_code"]
    return Answered(
        outcome=Outcome(row["outcome"]),
        verdict=Verdict(
            answer=row["answer"],
            reason=row["reason"],
            reason_code=None if code is None else ReasonCode(code),
            error_code=row["error_code"],
            error_at=row["error_at"],
        ),
        again=again,
    )
