"""Accounts and their sessions: what the catalogue answers of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from radir_pacs.callers import Role
from radir_pacs.scopes import Scope


@dataclass(frozen=True, kw_only=True)
class SubjectOf:
    """A person as a provider names it (OpenID Connect Core 5.7): both parts together never name anybody else."""

    issuer: str
    subject: str


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What an account may do. ``names``: rows of similar cases name their patients."""

    role: Role
    scope: Scope
    names: bool = False


@dataclass(frozen=True, kw_only=True)
class AccountToSignIn:
    """What a sign-in needs; ``password_hash``: None for one that the provider signs in."""

    id: int
    name: str
    role: Role
    password_hash: str | None
    must_change: bool
    disabled: bool


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account as an administrator sees it; ``issuer``: of the provider, None for one with a password of ours.

    sessions: how many browsers are signed in.
    """

    id: int
    name: str
    rights: Rights
    issuer: str | None
    subject: str | None
    must_change: bool
    created_at: datetime
    created_by: str
    last_signed_in_at: datetime | None
    disabled_at: datetime | None
    sessions: int


@dataclass(frozen=True, kw_only=True)
class KnownSession:
    """A session in force: of an account with these rights, or of a token, which ``token_tag`` tells.

    unseen_s: since it was noted to be in use. opened: studies that are open to the account in an emergency.
    opened_left_s: until the first of them is not any more; None: none is open.
    """

    account: str | None
    rights: Rights | None
    must_change: bool
    has_password: bool
    token_tag: str | None
    id_token: str | None
    unseen_s: float
    opened: frozenset[str] = frozenset()
    opened_left_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class EmergencyAccess:
    """One patient, opened to one account for a while; ``study_uid``: which study was asked for."""

    number: int
    caller: str
    study_uid: str
    patient_keys: list[str]
    reason: str
    begun_at: datetime
    ends_at: datetime
    ended_at: datetime | None
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """A session that is to begin; ``id_token``: by which the provider knows it at its end."""

    id_sha256: str
    address: str = ""
    id_token: str | None = None


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """Failed attempts to sign in as somebody, from one address."""

    address: str
    tries: int
    last_at: datetime
    blocked_until: datetime


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What was agreed before a browser was sent to the provider."""

    nonce: str
    verifier: str
    leads_to: str
