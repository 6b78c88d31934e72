"""Tokens by name and role. Only hashes are kept; a token is 256 random bits, which nobody can guess from one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping
from typing import Any

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from radir_pacs.callers import AuditEvent, Caller, Role, sees
from radir_pacs.catalogue.access_rows import KnownToken, TokenRow
from radir_pacs.catalogue.audit import note
from radir_pacs.catalogue.database import run
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.scopes import Scope, Withheld

PREFIX = "radir_"  # by which scanners for leaked secrets know one
OF_TOKENS = (Role.ADMINISTRATOR, Role.RADIOLOGIST, Role.RESEARCHER, Role.SERVICE)
_BYTES = 32
ALL = Scope()


def token_sha256(token: bytes) -> str:
    """By what a token is looked up."""
    return hashlib.sha256(token).hexdigest()


def scope_in_force(kept: Mapping[str, Any], role: Role, *, withholds: bool) -> Scope:
    """The scope as kept, with what the role sees of withheld patients; where there are none, it need not be asked."""
    return Scope.from_json(kept).seeing(sees(role) if withholds else Withheld.FROM_ALL)


class AccessTokens(CataloguePart):
    def create(
        self,
        name: str,
        role: Role,
        *,
        by: Caller,
        valid_s: float | None = None,
        scope: Scope = ALL,
        names: bool = False,
    ) -> str:
        """A new token, which is nowhere else: show it to whoever shall bear it. Raises BadInput for a name in use.

        scope: which studies it opens. names: whether rows of similar cases name their patients.
        """
        token = PREFIX + secrets.token_urlsafe(_BYTES)
        said = scope.as_json()
        values = {"name": name, "role": role, "token_sha256": token_sha256(token.encode()), "names": names}
        values["scope"] = Jsonb(said)
        detail = {key: ", ".join(value) if isinstance(value, list) else value for key, value in said.items()}
        try:
            with self._database.transaction() as connection:
                taken = run(connection, "name_is_taken", name=name).fetchone()
                if taken and taken["by_account"]:
                    raise BadInput(f"there is an account {name!r}: choose another name")
                run(connection, "create_token", values, created_by=by.name, valid_s=valid_s)
                note(connection, AuditEvent.TOKEN_CREATED, by, detail={"token": name, "role": role, **detail})
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
            return tuple(
                TokenRow(**{**row, "role": Role(row["role"]), "scope": Scope.from_json(row["scope"])})
                for row in run(connection, "tokens")
            )

    def in_force(self) -> dict[str, KnownToken] | None:
        """The tokens that are admitted, by hash; None as long as no token or account was ever made."""
        with self._database.transaction() as connection:
            rows = run(connection, "token_hashes").fetchall()
        if not rows:
            return None
        return {
            row["token_sha256"]: KnownToken(
                id=row["id"],
                name=row["name"],
                role=Role(row["role"]),
                scope=scope_in_force(row["scope"], Role(row["role"]), withholds=row["withholds"]),
                names=row["names"] or Role(row["role"]) is Role.ADMINISTRATOR,
            )
            for row in rows
            if row["id"] is not None
        }

    def used(self, ids: Collection[int]) -> None:
        """Note that these tokens were used just now."""
        with self._database.transaction() as connection:
            run(connection, "without_waiting")
            run(connection, "tokens_used", ids=list(ids))
