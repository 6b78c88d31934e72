"""Sessions in browsers, attempts to begin one, and visits to the provider. Only hashes of secrets are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radir_pacs.callers import Role
from radir_pacs.catalogue.access_tokens import scope_in_force
from radir_pacs.catalogue.account_rows import Attempts, KnownSession, NewSession, Rights, Visit
from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import SignInFailed

FREE_TRIES, FREE_TRIES_OF_ADDRESS = 5, 30  # before anybody waits
LONGEST_WAIT_S = 900.0
FORGET_S = 86_400.0
VISIT_S = 600.0
_VISITS_OF_ADDRESS = 200


class SignIns(CataloguePart):
    def begin(self, new: NewSession, account_id: int, verified: str | None) -> None:
        """A session of an account. Raises SignInFailed as `begin_session`."""
        with self._database.transaction() as connection:
            begin_session(connection, new, account_id, verified, self._bounds())

    def begin_with_token(self, new: NewSession, token_tag: str) -> None:
        """The same of a token."""
        with self._database.transaction() as connection:
            _insert(connection, new, self._bounds(), token_tag=token_tag)

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
            opened=frozenset(row["opened"]),
            opened_left_s=row["opened_left_s"],
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
        with self._database.transaction() as connection:
            run(connection, "prune_attempts", forget_s=FORGET_S)
        try:
            with self._database.transaction() as connection:  # counted for both or neither
                of_name = _count(connection, who, address, FREE_TRIES)
                of_address = _count(connection, "", address, FREE_TRIES_OF_ADDRESS)
        except _Waits as waits:
            return waits.wait_s, False
        return 0.0, of_name or of_address

    def take_back(self, who: str, address: str) -> None:
        """The attempt was none: nobody looked at the password."""
        with self._database.transaction() as connection:
            run(connection, "uncount_attempt", names=["", who], address=address)

    def succeeded(self, who: str, address: str) -> None:
        """The attempt was right: nothing is held against this name at this address."""
        with self._database.transaction() as connection:
            run(connection, "forget_attempts", who=who, address=address)
            run(connection, "uncount_attempt", names=[""], address=address)

    def forgive(self, who: str) -> None:
        """Forget failed attempts as somebody, from wherever, and let those addresses try again at once."""
        with self._database.transaction() as connection:
            run(connection, "forgive_attempts", who=who)

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

    def _bounds(self) -> dict[str, float]:
        return {"longest_s": self._settings.session_longest_s, "idle_s": self._settings.session_idle_s}


def begin_session(
    connection: Connection, new: NewSession, account_id: int, verified: str | None, bounds: Mapping[str, float]
) -> None:
    """Begin a session of an account; ``verified``: the hash that its password fitted, None where the provider did that.

    Raises SignInFailed for an account that is disabled or has another password by now. So whoever takes a right away
    afterwards finds the session and ends it.
    """
    if run(connection, "account_signed_in", id=account_id, verified=verified).fetchone() is None:
        raise SignInFailed
    _insert(connection, new, bounds, account_id=account_id)


def _insert(
    connection: Connection,
    new: NewSession,
    bounds: Mapping[str, float],
    *,
    account_id: int | None = None,
    token_tag: str | None = None,
) -> None:
    """What ended by time is cleared away."""
    run(connection, "prune_sessions", bounds)
    values: dict[str, Any] = {"id_sha256": new.id_sha256, "id_token": new.id_token, "address": new.address}
    run(connection, "begin_session", values, account_id=account_id, token_tag=token_tag)


class _Waits(Exception):
    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s


def _count(connection: Connection, who: str, address: str, free: int) -> bool:
    """Count one more; returns whether the next will wait. Raises _Waits where this one has to."""
    bounds = {"free": free, "most_s": LONGEST_WAIT_S, "forget_s": FORGET_S}
    row = run(connection, "begin_attempt", bounds, who=who, address=address).fetchone()
    if row is not None:
        return bool(row["tries"] >= free)
    waits = run(connection, "attempt_waits", who=who, address=address).fetchone()
    raise _Waits(max(float(waits["wait_s"]), 1.0) if waits is not None else 1.0)
