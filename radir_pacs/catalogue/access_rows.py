"""Tokens and the audit trail: what the catalogue answers of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from radir_pacs.callers import AuditEvent, Role
from radir_pacs.reasons import ReasonCode
from radir_pacs.scopes import Scope, Withheld


@dataclass(frozen=True, kw_only=True)
class KnownToken:
    """A token that is admitted."""

    id: int
    name: str
    role: Role
    scope: Scope
    names: bool


@dataclass(frozen=True, kw_only=True)
class WithheldPatient:
    """A patient whose studies are withheld; ``patient_key``: issuer and id, joined by a backslash."""

    patient_key: str
    degree: Withheld
    reason: str
    by: str
    at: datetime
    studies: int


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A DICOM peer that may call. ``network`` in CIDR notation; ``::/0``: from anywhere, by IPv4 too.

    certificate: of the client's side of its TLS connection, ``sha256:`` and 64 hex digits, or ``CN=`` and a name; None:
    not looked at. site: the label of what it sends; None: its title. host and port: where it is called itself.
    """

    ae_title: str
    network: str = "::/0"
    certificate: str | None = None
    may_store: bool = True
    may_commit: bool = True
    site: str | None = None
    host: str | None = None
    port: int | None = None
    over_tls: bool = False
    created_at: datetime | None = None
    created_by: str = ""


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """A token as an administrator sees it; the token itself is nowhere."""

    id: int
    name: str
    role: Role
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    in_force: bool
    scope: Scope
    names: bool


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """An event of the audit trail. ``seal``: the number of the seal that covers it, None for the newest ones."""

    id: int
    at: datetime
    event: AuditEvent
    caller: str
    role: Role
    address: str
    study_uid: str | None
    patient_keys: list[str]
    detail: Mapping[str, str | int]
    seal: int | None


@dataclass(frozen=True, kw_only=True)
class Seal:
    """``digest`` in hexadecimal; numbers count from 1."""

    number: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The state of the audit trail's seals, up to the first that does not fit (``broken_at``).

    digest: of the last seal that fits, in hexadecimal. found: whether the digest that was expected is among them.
    retired: seals whose events were exported, and are taken as they stand unless the export is given.
    unsealed: events that no seal covers yet, the oldest for ``oldest_s`` seconds.
    """

    seals: int
    events: int
    digest: str
    sealed_at: datetime | None
    broken_at: int | None
    found: bool
    unsealed: int
    oldest_s: float | None
    retired: int = 0


@dataclass(frozen=True, kw_only=True)
class AuditReceiver:
    """How far a receiver of the trail is. waiting: events that it did not confirm, the oldest for ``oldest_s``.

    failed: why the last batch did not arrive, since ``failed_since``; None: it did.
    """

    name: str
    waiting: int
    oldest_s: float
    sent_at: datetime | None
    failed: ReasonCode | None
    failed_since: datetime | None
