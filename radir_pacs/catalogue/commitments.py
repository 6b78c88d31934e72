"""Requests for storage commitment (PS3.4 annex J), kept until their results have been reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from radir_pacs.catalogue.database import Row, run
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import Commitment, HeldInstance
from radir_pacs.errors import NotFound
from radir_pacs.types import JobKind

REPORT_ATTEMPTS = 12  # the pause doubles with each: more than two hours in all


class Commitments(CataloguePart):
    def add(self, transaction_uid: str, requestor: str, instances: Sequence[tuple[str, str]]) -> Commitment:
        """Keep a request, with a job written in the same transaction that checks the files."""
        values = {
            "transaction_uid": transaction_uid,
            "requestor": requestor,
            "instances": Jsonb([list(pair) for pair in instances]),
        }
        with self._database.transaction() as connection:
            row = run(connection, "add_commitment", values).fetchone()
            assert row is not None
            enqueue(connection, JobKind.COMMITMENT, str(row["id"]), REPORT_ATTEMPTS)
            found = run(connection, "commitment", id=row["id"]).fetchone()
        assert found is not None
        return _commitment_of(found)

    def get(self, commitment_id: int) -> Commitment:
        """Raises NotFound."""
        with self._database.transaction() as connection:
            row = run(connection, "commitment", id=commitment_id).fetchone()
        if row is None:
            raise NotFound(f"there is no storage commitment {commitment_id}")
        return _commitment_of(row)

    def checked(self, commitment: Commitment, failed: Sequence[tuple[str, str, int]]) -> None:
        """Keep the result: (SOP class UID, SOP instance UID, failure reason) of what is not kept.

        Nothing changes if the peer asked again since ``commitment`` was read.
        """
        values = {"id": commitment.id, "asked_at": commitment.asked_at, "failed": Jsonb([list(one) for one in failed])}
        with self._database.transaction() as connection:
            run(connection, "commitment_checked", values)

    def pending(self, requestor: str, limit: int = 100) -> tuple[Commitment, ...]:
        """A peer's requests that were checked, and whose results it has not been told yet, oldest first."""
        with self._database.transaction() as connection:
            rows = run(connection, "pending_commitments", requestor=requestor, limit=limit).fetchall()
        return tuple(_commitment_of(row) for row in rows)

    def reported(self, commitment: Commitment) -> None:
        """The peer confirmed that it has the result. Nothing changes if it asked again meanwhile."""
        with self._database.transaction() as connection:
            run(connection, "commitment_reported", id=commitment.id, asked_at=commitment.asked_at)

    def held(self, sop_uids: Sequence[str]) -> Mapping[str, HeldInstance]:
        """The given instances that are stored here, by SOP Instance UID."""
        with self._database.transaction() as connection:
            rows = run(connection, "held_instances", sop_uids=list(sop_uids)).fetchall()
        return {row.pop("sop_uid"): HeldInstance(**row) for row in rows}

    def prune(self, keep_s: float) -> int:
        """Forget requests older than ``keep_s``; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "prune_commitments", keep_s=keep_s).rowcount


def _commitment_of(row: Row) -> Commitment:
    return Commitment(
        id=row["id"],
        transaction_uid=row["transaction_uid"],
        requestor=row["requestor"],
        instances=tuple((sop_class, sop_uid) for sop_class, sop_uid in row["instances"]),
        is_reported=row["state"] == "REPORTED",
        asked_at=row["asked_at"],
        failed=None if row["failed"] is None else tuple((cls, uid, reason) for cls, uid, reason in row["failed"]),
    )
