"""Refused instances: ids and reasons only."""

from __future__ import annotations

from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.rows import Refusal
from radir_pacs.reasons import ReasonCode


class Refusals(CataloguePart):
    def add(
        self,
        sop_uid: str | None,
        reason: str,
        dimse_status: int | None,
        source: str,
        *,
        reason_code: ReasonCode = ReasonCode.OTHER,
    ) -> None:
        """Record a refusal. ``reason`` names no patient."""
        values = {"sop_uid": sop_uid, "reason": reason, "dimse_status": dimse_status, "source": source}
        with self._database.transaction() as connection:
            run(connection, "add_refusal", values, reason_code=reason_code)

    def recent(self, limit: int = 100) -> tuple[Refusal, ...]:
        """Refusals, the newest first."""
        with self._database.transaction() as connection:
            return tuple(
                Refusal(**row | {"reason_code": ReasonCode(row["reason_code"])})
                for row in run(connection, "refusals", limit=limit)
            )

    def drop(self, reason_code: ReasonCode | None = None) -> int:
        """Forget all refusals, or those with one reason code; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "drop_refusals", reason_code=reason_code).rowcount

    def prune(self, *, keep_s: float, most: int) -> int:
        """Forget refusals older than ``keep_s``, and all but about the newest ``most``; returns how many."""
        with self._database.transaction() as connection:
            return run(connection, "prune_refusals", keep_s=keep_s, most=most).rowcount
