"""Accounts of people.

Whatever takes a right away ends the account's sessions and emergency accesses in the same transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue.account_rows import Account, AccountToSignIn, NewSession, Rights, SubjectOf
from radir_pacs.catalogue.audit import Detail, note
from radir_pacs.catalogue.database import Connection, Row, run
from radir_pacs.catalogue.emergencies import end_of_account
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.sign_ins import begin_session
from radir_pacs.errors import BadInput, NotFound, SignInFailed
from radir_pacs.scopes import Scope

OF_ACCOUNTS = (Role.ADMINISTRATOR, Role.RADIOLOGIST, Role.RESEARCHER)


class Accounts(CataloguePart):
    def add(self, name: str, rights: Rights, password_hash: str, *, by: Caller, must_change: bool = False) -> None:
        """A new account, which signs in with a password. Raises BadInput for a name in use."""
        try:
            with self._database.transaction() as connection:
                self._add(connection, name, rights, by, password_hash=password_hash, must_change=must_change)
        except UniqueViolation:
            raise BadInput(f"there is an account {name!r}: choose another name") from None

    def sign_in_subject(self, who: SubjectOf, name: str, rights: Rights, new: NewSession, *, by: Caller) -> str | None:
        """Begin a session of a person's account, with these rights from now on; its name, or None where it is disabled.

        At the first sign-in the account is made, and called ``name``, or with a part of a hash behind where another
        person is called so. Other rights than before end the sessions of before.
        """
        try:
            return self._sign_in_subject(who, name, rights, new, by)
        except UniqueViolation:  # another tab made the account meanwhile, or somebody took the name
            return self._sign_in_subject(who, name, rights, new, by)

    def _sign_in_subject(self, who: SubjectOf, name: str, rights: Rights, new: NewSession, by: Caller) -> str | None:
        with self._database.transaction() as connection:
            found = run(connection, "account_of_subject", issuer=who.issuer, subject=who.subject).fetchone()
            if found is None:
                taken = run(connection, "name_is_taken", name=name).fetchone()
                if taken and (taken["by_account"] or taken["by_token"]):
                    name = f"{name}#{hashlib.sha256(f'{who.issuer} {who.subject}'.encode()).hexdigest()[:8]}"
                account_id = self._add(connection, name, rights, by, issuer=who.issuer, subject=who.subject)
            elif found["disabled"]:
                return None
            else:
                self._change_rights(connection, found, rights, by)
                account_id, name = int(found["id"]), str(found["name"])
            begin_session(connection, new, account_id, None, self._session_bounds())
        return name

    def to_sign_in(self, name: str) -> AccountToSignIn | None:
        """The account of this name, in whatever case it is written; a disabled one too."""
        with self._database.transaction() as connection:
            row = run(connection, "account_to_sign_in", name=name).fetchone()
        return AccountToSignIn(**{**row, "role": Role(row["role"])}) if row is not None else None

    def end_sessions_of(self, who: SubjectOf) -> str:
        """The provider names this person, who has no right here any more; returns the account's name, or nothing."""
        with self._database.transaction() as connection:
            found = run(connection, "account_of_subject", issuer=who.issuer, subject=who.subject).fetchone()
            if found is None:
                return ""
            run(connection, "end_sessions", id=found["id"])
            end_of_account(connection, found["id"], Caller(name=found["name"], role=Role.RADIOLOGIST))
            return str(found["name"])

    def all(self) -> tuple[Account, ...]:
        """By name."""
        return self._read(None)

    def get(self, name: str) -> Account:
        """Raises NotFound."""
        found = self._read(name)
        if not found:
            raise NotFound(f"there is no account {name!r}")
        return found[0]

    def set_rights(self, name: str, rights: Rights, *, by: Caller, may_be_last: bool = False) -> None:
        """Another role or scope; who is signed in with another role has to sign in again. Raises NotFound, BadInput.

        may_be_last: also of the last local administrator, as in `disable` and `remove`.
        """
        with self._database.transaction() as connection:
            row = _locked(connection, name)
            if row["issuer"] is not None:
                raise BadInput("the provider's groups say what this account may do: see oidc_mapping")
            if rights.role is not Role.ADMINISTRATOR and not may_be_last:
                _require_another_administrator(connection, row)
            self._change_rights(connection, row, rights, by)

    def set_password(
        self, name: str, password_hash: str, *, by: Caller, must_change: bool = False, verified: str | None = None
    ) -> None:
        """Another password, which ends all sessions. Raises NotFound, BadInput.

        verified: the hash that the present password fitted, of somebody who changes the own one; raises SignInFailed
        where somebody else has changed it since.
        """
        with self._database.transaction() as connection:
            row = _locked(connection, name)
            if row["issuer"] is not None:
                raise BadInput("this account has no password here: the provider signs it in")
            values = {"password_hash": password_hash, "must_change": must_change, "verified": verified}
            if run(connection, "set_password", values, id=row["id"]).fetchone() is None:
                raise SignInFailed
            run(connection, "end_sessions", id=row["id"])
            note(connection, AuditEvent.ACCOUNT_CHANGED, by, detail={"account": row["name"], "change": "password"})

    def hash_again(self, found: AccountToSignIn, password_hash: str) -> bool:
        """The same password, hashed with the parameters of today; False where it is another one by now."""
        values = {"password_hash": password_hash, "must_change": found.must_change, "verified": found.password_hash}
        with self._database.transaction() as connection:
            return run(connection, "set_password", values, id=found.id).fetchone() is not None

    def disable(self, name: str, *, by: Caller, may_be_last: bool = False) -> None:
        """Nobody signs in with it, and nobody is signed in, within a second everywhere. Raises NotFound, BadInput."""
        self._switch(name, "disable_account", "disabled", by, may_be_last=may_be_last)

    def enable(self, name: str, *, by: Caller) -> None:
        """Raises NotFound."""
        self._switch(name, "enable_account", "enabled", by)

    def end_sessions(self, name: str, *, by: Caller) -> None:
        """Whoever is signed in with it has to sign in again. Raises NotFound."""
        self._switch(name, None, "signed_out", by)

    def unlocked(self, name: str, *, by: Caller) -> None:
        """Record that failed attempts to sign in with it are forgotten (`SignIns.forgive`)."""
        with self._database.transaction() as connection:
            note(connection, AuditEvent.ACCOUNT_CHANGED, by, detail={"account": name, "change": "unlocked"})

    def remove(self, name: str, *, by: Caller, may_be_last: bool = False) -> None:
        """It is gone, its name is free, and what it did stays in the trail. Raises NotFound, BadInput.

        A disabled one of a provider stays: the person would make a new one at the next sign-in.
        """
        with self._database.transaction() as connection:
            row = _locked(connection, name)
            if row["issuer"] is not None and row["disabled"]:
                raise BadInput("without this account the provider lets the person in again: leave it disabled")
            if not may_be_last:
                _require_another_administrator(connection, row)
            run(connection, "end_sessions", id=row["id"])
            end_of_account(connection, row["id"], by)
            run(connection, "remove_account", id=row["id"])
            note(connection, AuditEvent.ACCOUNT_REMOVED, by, detail={"account": row["name"]})

    def _switch(self, name: str, query: str | None, change: str, by: Caller, *, may_be_last: bool = True) -> None:
        with self._database.transaction() as connection:
            row = _locked(connection, name)
            if not may_be_last:
                _require_another_administrator(connection, row)
            if query is not None:
                run(connection, query, id=row["id"])
                end_of_account(connection, row["id"], by)
            run(connection, "end_sessions", id=row["id"])
            note(connection, AuditEvent.ACCOUNT_CHANGED, by, detail={"account": row["name"], "change": change})

    def _read(self, name: str | None) -> tuple[Account, ...]:
        with self._database.transaction() as connection:
            rows = run(connection, "accounts", self._session_bounds(), name=name).fetchall()
        return tuple(_account(row) for row in rows)

    def _session_bounds(self) -> dict[str, float]:
        return {"longest_s": self._settings.session_longest_s, "idle_s": self._settings.session_idle_s}

    @staticmethod
    def _add(
        connection: Connection,
        name: str,
        rights: Rights,
        by: Caller,
        *,
        password_hash: str | None = None,
        must_change: bool = False,
        issuer: str | None = None,
        subject: str | None = None,
    ) -> int:
        taken = run(connection, "name_is_taken", name=name).fetchone()
        if taken and taken["by_token"]:
            raise BadInput(f"a token in force is called {name!r}: choose another name")
        values: dict[str, Any] = {"password_hash": password_hash, "must_change": must_change}
        values |= {"issuer": issuer, "subject": subject, "created_by": by.name}
        made = run(connection, "add_account", values | _kept(rights), name=name).fetchone()
        assert made is not None
        note(connection, AuditEvent.ACCOUNT_ADDED, by, detail={"account": name, **_told(rights)})
        return int(made["id"])

    @staticmethod
    def _change_rights(connection: Connection, row: Row, rights: Rights, by: Caller) -> None:
        before = _rights(row)
        if before == rights:
            return
        run(connection, "set_account_rights", _kept(rights), id=row["id"])
        if before.role is not rights.role:
            run(connection, "end_sessions", id=row["id"])
            end_of_account(connection, row["id"], by)
        detail: Detail = {"account": row["name"], "change": "rights", **_told(rights)}
        note(connection, AuditEvent.ACCOUNT_CHANGED, by, detail=detail)


def _require_another_administrator(connection: Connection, row: Row) -> None:
    """Raise BadInput where this locked account is the last one that administers and signs in here.

    Those who take the right away from two at once do so one after the other.
    """
    if row["issuer"] is not None or row["disabled"] or row["role"] != Role.ADMINISTRATOR:
        return
    run(connection, "lock_administrators")
    if run(connection, "another_administrator", id=row["id"]).fetchone() is None:
        raise BadInput(
            "no account would be left that administers: make another one first, here or on the server with"
            " 'radir users add NAME --role administrator'"
        )


def _locked(connection: Connection, name: str) -> Row:
    row = run(connection, "lock_account", name=name).fetchone()
    if row is None:
        raise NotFound(f"there is no account {name!r}")
    return row


def _kept(rights: Rights) -> dict[str, Any]:
    return {"role": rights.role, "scope": Jsonb(rights.scope.as_json()), "names": rights.names}


def _told(rights: Rights) -> dict[str, str]:
    """For the trail, which holds no lists."""
    said = rights.scope.as_json()
    return {"role": rights.role} | {k: ", ".join(v) if isinstance(v, list) else v for k, v in said.items()}


def _rights(row: Mapping[str, Any]) -> Rights:
    return Rights(role=Role(row["role"]), scope=Scope.from_json(row["scope"]), names=row["names"])


def _account(row: Row) -> Account:
    rest = {key: value for key, value in row.items() if key not in {"role", "scope", "names"}}
    return Account(rights=_rights(row), **rest)
