"""Emergency access: an account that reaches one more patient for a while, whatever its scope says (ADR 0040)."""

from __future__ import annotations

from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue.account_rows import EmergencyAccess
from radir_pacs.catalogue.audit import note
from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import BadInput, NotFound


class Emergencies(CataloguePart):
    def begin(self, study_uid: str, reason: str, *, valid_s: float, most: int, by: Caller) -> EmergencyAccess:
        """Open the patient of a study to the account that calls, within a second everywhere.

        The trail says so in the same transaction. Raises NotFound where the study is not here or names no patient, and
        where no account of a radiologist calls; BadInput where it began ``most`` within ``valid_s``, ended or not.
        """
        values = {"study_uid": study_uid, "reason": reason, "valid_s": valid_s}
        with self._database.transaction() as connection:
            account = run(connection, "lock_account", name=by.name).fetchone()
            if account is None:
                raise NotFound(f"there is no study {study_uid}")
            begun = run(connection, "emergencies_begun", account=account["id"], valid_s=valid_s).fetchone()
            if begun is None or begun["n"] >= most:
                raise BadInput(f"you opened {most} patients lately: wait, or ask an administrator")
            made = run(connection, "begin_emergency", values, account=account["id"]).fetchone()
            if made is None:
                raise NotFound(f"there is no study {study_uid}")
            detail = {"number": made["id"], "reason": reason, "until": made["ends_at"].isoformat(timespec="seconds")}
            note(connection, AuditEvent.EMERGENCY_STARTED, by, study_uid, detail)
            rows = run(connection, "emergencies", account=by.name).fetchall()
        return next(EmergencyAccess(**row) for row in rows if row["number"] == made["id"])

    def end(self, number: int, *, by: Caller, of: str | None = None) -> None:
        """End one before its time; ``of``: of this account only. Raises NotFound where it has ended."""
        with self._database.transaction() as connection:
            row = run(connection, "end_emergency", number=number, account=of).fetchone()
            if row is None:
                raise NotFound("there is no such access, or it has ended")
            _note_end(connection, row, by)

    def end_due(self) -> int:
        """Tell the trail of those whose time is over, each in the name of whom it served; returns how many."""
        with self._database.transaction() as connection:
            rows = run(connection, "end_emergencies").fetchall()
            for row in rows:
                _note_end(connection, row, Caller(name=row["caller"], role=Role.RADIOLOGIST), why="time")
        return len(rows)

    def all(self) -> tuple[EmergencyAccess, ...]:
        """Those that are kept, the newest first; the trail keeps them for longer."""
        return self._read(None)

    def open_of(self, account: str) -> tuple[EmergencyAccess, ...]:
        """What is open to one account now."""
        return self._read(account)

    def figure(self) -> int:
        """How many are open, or began within the last hour."""
        with self._database.transaction() as connection:
            row = run(connection, "figure_of_emergencies").fetchone()
        assert row is not None
        return int(row["n"])

    def prune(self, keep_s: float) -> None:
        """Forget those that ended longer ago."""
        with self._database.transaction() as connection:
            run(connection, "prune_emergencies", keep_s=keep_s)

    def _read(self, account: str | None) -> tuple[EmergencyAccess, ...]:
        with self._database.transaction() as connection:
            return tuple(EmergencyAccess(**row) for row in run(connection, "emergencies", account=account))


def end_of_account(connection: Connection, account_id: int, by: Caller) -> None:
    """End all of an account that loses the right, in the transaction that takes it away."""
    for row in run(connection, "end_emergencies_of", id=account_id).fetchall():
        _note_end(connection, row, by, why="account")


def erase_emergencies(connection: Connection, names: dict[str, object], by: Caller) -> None:
    """Forget those of erased studies or patients; what was open ends in the trail."""
    for row in run(connection, "erase_emergencies", names).fetchall():
        _note_end(connection, row, by, why="erased")


def _note_end(connection: Connection, row: Row, by: Caller, **why: str) -> None:
    detail = {"number": row["id"], **why}
    note(connection, AuditEvent.EMERGENCY_STOPPED, by, row["study_uid"], detail, row["patient_keys"])
