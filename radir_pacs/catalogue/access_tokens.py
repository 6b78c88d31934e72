"""Tokens by name and role. Only hashes are kept; a token is 256 random bits, which nobody can guess from one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection

from psycopg.errors import UniqueViolation

from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue.access_rows import KnownToken, TokenRow
from radir_pacs.catalogue.audit import note
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import BadInput, NotFound

PREFIX = "radir_"  # by which scanners for leaked secrets know one
OF_TOKENS = (Role.ADMINISTRATOR, Role.RADIOLOGIST, Role.SERVICE)
_BYTES = 32


def token_sha256(token: bytes) -> str:
    """By what a token is looked up."""
    return hashlib.sha256(token).hexdigest()


class AccessTokens(CataloguePart):
    def create(self, name: str, role: Role, *, by: Caller, valid_s: float | None = None) -> str:
        """A new token, which is nowhere else: show it to whoever shall bear it. Raises BadInput for a name in use."""
        token = PREFIX + secrets.token_urlsafe(_BYTES)
        values = {"name": name, "role": role, "token_sha256": token_sha256(token.encode())}
        try:
            with self._database.transaction() as connection:
                run(connection, "create_token", values, created_by=by.name, valid_s=valid_s)
                note(connection, AuditEvent.TOKEN_CREATED, by, detail={"token": name, "role": role})
        except UniqueViolation:
            raise BadInput(f"there is a token {name!r} in force: revoke it first, or choose another name") from None
        return token

    def revoke(self, name: str, *, by: Caller) -> None:
        """The token of this name is refused from now on, within a second everywhere. Raises NotFound."""
        with self._database.transaction() as connection:
            if run(connection, "revoke_token", name=name, by=by.name).fetchone() is None:
                raise NotFound(f"no token {name!r} is in force")
            note(connection, AuditEvent.TOKEN_REVOKED, by, detail={"token": name})

    def all(self) -> tuple[TokenRow, ...]:
        """Every token that there ever was, newest first."""
        with self._database.transaction() as connection:
            return tuple(TokenRow(**{**row, "role": Role(row["role"])}) for row in run(connection, "tokens"))

    def in_force(self) -> dict[str, KnownToken] | None:
        """The tokens that are admitted, by hash; None as long as no token was ever made."""
        with self._database.transaction() as connection:
            rows = run(connection, "token_hashes").fetchall()
        if not rows:
            return None
        return {
            row["token_sha256"]: KnownToken(id=row["id"], name=row["name"], role=Role(row["role"]))
            for row in rows
            if row["id"] is not None
        }

    def used(self, ids: Collection[int]) -> None:
        """Note that these tokens were used just now."""
        with self._database.transaction() as connection:
            run(connection, "without_waiting")
            run(connection, "tokens_used", ids=list(ids))
