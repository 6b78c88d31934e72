"""To whom the audit trail is sent, and how far each of them has it: the trail is the spool, this the place in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from radir_pacs.callers import AuditEvent, Caller
from radir_pacs.catalogue.access_rows import AuditReceiver, AuditRow
from radir_pacs.catalogue.audit import Detail, audit_row, note
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.reasons import ReasonCode


class AuditReceivers(CataloguePart):
    def keep(self, names: Sequence[str]) -> None:
        """These are receivers too; a new one gets what is not sealed yet and what follows. Others keep their place: a
        relay whose settings were not read must lose nothing, so they are forgotten by name only."""
        with self._database.transaction() as connection:
            run(connection, "keep_audit_receivers", names=list(names))

    def forget(self, name: str, by: Caller) -> None:
        """Nothing waits for it any more. Raises NotFound."""
        with self._database.transaction() as connection:
            if run(connection, "forget_audit_receiver", name=name).fetchone() is None:
                raise NotFound(f"the audit trail has no receiver {name}: radir status names them")
            note(connection, AuditEvent.AUDIT_RETIRED, by, detail={"receiver": name})

    def claim(self, name: str, holder: str, *, hold_s: float, most: int) -> tuple[AuditRow, ...]:
        """The next events for a receiver, in the order of the seals; none while another holder has it.

        They are this holder's for ``hold_s`` seconds; what is not confirmed comes again.
        """
        with self._database.transaction() as connection:
            place = run(connection, "hold_audit_receiver", name=name, holder=holder, hold_s=hold_s).fetchone()
            if place is None:
                return ()
            return tuple(audit_row(row) for row in run(connection, "sealed_events_after", dict(place), most=most))

    def sent(self, name: str, holder: str, last: AuditRow) -> None:
        """The receiver confirmed everything up to ``last``; nothing happens where the holder is another by now."""
        with self._database.transaction() as connection:
            run(connection, "audit_sent", name=name, holder=holder, seal=last.seal, event=last.id)

    def failed(self, name: str, holder: str, reason: ReasonCode) -> None:
        """A batch did not arrive, or not all of it."""
        with self._database.transaction() as connection:
            run(connection, "audit_not_sent", name=name, holder=holder, failed=reason)

    def skip(self, name: str, reason: str, by: Caller) -> AuditRow:
        """Go on behind the one event that a receiver refused last, and record that it lacks it; returns the event.

        Raises NotFound, and BadInput where it refused none: whoever is away or ill gets everything later.
        """
        with self._database.transaction() as connection:
            place = run(connection, "lock_audit_receiver", name=name).fetchone()
            if place is None:
                raise NotFound(f"the audit trail has no receiver {name}: radir status names them")
            refused = None
            if place["failed"] == ReasonCode.PEER_REFUSED:  # of one event; what is ill or away takes it later
                refused = run(connection, "sealed_events_after", dict(place), most=1).fetchone()
            if refused is None:
                raise BadInput(f"{name} refused no event: what it lacks is sent when it can be reached: radir status")
            row = audit_row(refused)
            run(connection, "audit_skip", name=name, seal=row.seal, event=row.id)
            detail: Detail = {"receiver": name, "skipped": row.id, "skipped_as": row.event, "reason": reason}
            note(connection, AuditEvent.AUDIT_SKIPPED, by, detail=detail)
        return row

    def send_again(self, since: datetime) -> tuple[str, ...]:
        """Every receiver that has events from ``since`` on gets them again; returns which."""
        with self._database.transaction() as connection:
            return tuple(row["name"] for row in run(connection, "audit_send_again", since=since))

    def all(self) -> tuple[AuditReceiver, ...]:
        """How far each is."""
        with self._database.transaction() as connection:
            return tuple(
                AuditReceiver(**{**row, "failed": ReasonCode(row["failed"]) if row["failed"] else None})
                for row in run(connection, "audit_receivers")
            )
