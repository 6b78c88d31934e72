"""Sessions in browsers, attempts to begin one, and visits to the provider. Only hashes of secrets are kept."""

from __future__ import annotations

from typing import Any

from radir_pacs.callers import Role
from radir_pacs.catalogue.access_tokens import scope_in_force
from radir_pacs.catalogue.account_rows import Attempts, KnownSession, Rights, Visit
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart

FREE_TRIES, FREE_TRIES_OF_ADDRESS = 5, 30  # before anybody waits
LONGEST_WAIT_S = 900.0
FORGET_S = 86_400.0
VISIT_S = 600.0
_VISITS_OF_ADDRESS = 200


class SignIns(CataloguePart):
    def begin(
        self,
        id_sha256: str,
        *,
        account_id: int | None = None,
        token_tag: str | None = None,
        id_token: str | None = None,
        address: str = "",
    ) -> None:
        """A session, of an account or a token; what ended by time is cleared away."""
        values = {"account_id": account_id, "token_tag": token_tag, "id_token": id_token, "address": address}
        with self._database.transaction() as connection:
            run(connection, "prune_sessions", self._bounds())
            run(connection, "begin_session", values, id_sha256=id_sha256)
            if account_id is not None:
                run(connection, "account_signed_in", id=account_id)

    def session(self, id_sha256: str) -> KnownSession | None:
        """None where it has ended, or never began."""
        with self._database.transaction() as connection:
            row = run(connection, "session", self._bounds(), id_sha256=id_sha256).fetchone()
        if row is None:
            return None
        rights = None
        if row["account_id"] is not None:
            role = Role(row["role"])
            scope = scope_in_force(row["scope"], role, withholds=row["withholds"])
            rights = Rights(role=role, scope=scope, names=row["names"] or role is Role.ADMINISTRATOR)
        return KnownSession(
            account=row["name"],
            rights=rights,
            must_change=bool(row["must_change"]),
            has_password=bool(row["has_password"]),
            token_tag=row["token_tag"],
            id_token=row["id_token"],
            unseen_s=row["unseen_s"],
        )

    def seen(self, id_sha256: str) -> None:
        """Note that the session is in use."""
        with self._database.transaction() as connection:
            run(connection, "without_waiting")
            run(connection, "session_seen", id_sha256=id_sha256)

    def end(self, id_sha256: str) -> None:
        with self._database.transaction() as connection:
            run(connection, "end_session", id_sha256=id_sha256)

    def try_once(self, who: str, address: str) -> tuple[float, bool]:
        """Count an attempt before it is made, so that many at once count as many.

        Returns for how many seconds it has to wait instead, 0 where it may be made; and whether the next will wait.
        """
        first_wait_s, first_next = self._count("", address, FREE_TRIES_OF_ADDRESS)
        if first_wait_s:
            return first_wait_s, False
        wait_s, will_wait = self._count(who, address, FREE_TRIES)
        return wait_s, will_wait or first_next

    def succeeded(self, who: str, address: str) -> None:
        """The attempt was right: nothing is held against this name at this address."""
        with self._database.transaction() as connection:
            run(connection, "forget_attempts", who=who, address=address)
            run(connection, "uncount_attempt", address=address)

    def forgive(self, who: str) -> None:
        """Forget failed attempts as somebody, from wherever."""
        with self._database.transaction() as connection:
            run(connection, "forget_attempts", who=who, address=None)

    def attempts(self, who: str) -> tuple[Attempts, ...]:
        """Failed ones as somebody, the newest first."""
        with self._database.transaction() as connection:
            return tuple(Attempts(**row) for row in run(connection, "attempts_of", who=who))

    def begin_visit(self, state_sha256: str, browser_sha256: str, visit: Visit, address: str) -> bool:
        """A browser is sent to the provider; False where too many of this address are away."""
        values: dict[str, Any] = {"nonce": visit.nonce, "verifier": visit.verifier, "leads_to": visit.leads_to}
        values |= {"state_sha256": state_sha256, "browser_sha256": browser_sha256, "address": address}
        with self._database.transaction() as connection:
            run(connection, "prune_visits", within_s=VISIT_S)
            return run(connection, "begin_visit", values, most=_VISITS_OF_ADDRESS).fetchone() is not None

    def end_visit(self, state_sha256: str, browser_sha256: str) -> Visit | None:
        """The browser comes back; None for one that was not sent, comes too late, or comes a second time."""
        values = {"state_sha256": state_sha256, "browser_sha256": browser_sha256, "within_s": VISIT_S}
        with self._database.transaction() as connection:
            row = run(connection, "end_visit", values).fetchone()
        if row is None or not row["in_time"]:
            return None
        return Visit(nonce=row["nonce"], verifier=row["verifier"], leads_to=row["leads_to"])

    def _count(self, who: str, address: str, free: int) -> tuple[float, bool]:
        bounds = {"free": free, "most_s": LONGEST_WAIT_S, "forget_s": FORGET_S}
        with self._database.transaction() as connection:
            run(connection, "prune_attempts", forget_s=FORGET_S)
            row = run(connection, "begin_attempt", bounds, who=who, address=address).fetchone()
            if row is not None:
                return 0.0, row["tries"] >= free
            waits = run(connection, "attempt_waits", who=who, address=address).fetchone()
        return max(float(waits["wait_s"]), 1.0) if waits is not None else 1.0, False

    def _bounds(self) -> dict[str, float]:
        return {"longest_s": self._settings.session_longest_s, "idle_s": self._settings.session_idle_s}
