"""Who is signed in: a random id that only the browser has, whose hash the catalogue keeps.

Every process believes what it read for a second, so that what takes a right away acts within that time and a page's
pictures cost no round trip each; for a minute where the database is away. But what is open in an emergency ends in
time: all of it with the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cachetools import TTLCache

from radir_pacs.access.bearers import FRESH_S, STALE_S, Bearers
from radir_pacs.access.sign_in import key_of_sessions
from radir_pacs.callers import Caller, Role
from radir_pacs.catalogue import KnownSession, NewSession, token_sha256
from radir_pacs.catalogue.sign_ins import SignIns
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed

_BYTES = 32
_MOST = 10_000  # P6
_NOTE_USE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Held:
    """A session in force. ``must_change``: its bearer has to choose a password first.

    is_of_account: and not of a token, which several people may share. has_password: one of ours.
    id_token: the provider's, where it signed in.
    """

    caller: Caller
    must_change: bool = False
    is_of_account: bool = False
    has_password: bool = False
    id_token: str | None = None


def may_open_patients(role: Role, settings: Settings) -> bool:
    """Whether an account of that role may open a patient in an emergency (ADR 0040)."""
    return settings.emergency_access and role is Role.RADIOLOGIST


class Sessions:
    """Safe for many threads."""

    def __init__(
        self,
        sign_ins: SignIns,
        bearers: Bearers,
        settings: Settings,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sign_ins, self._bearers, self._settings = sign_ins, bearers, settings
        self._lock = threading.Lock()
        self._fresh: TTLCache[str, KnownSession | None] = TTLCache(_MOST, FRESH_S, timer=clock_s)
        self._lately: TTLCache[str, tuple[KnownSession, float]] = TTLCache(_MOST, STALE_S, timer=clock_s)
        self._clock_s = clock_s

    def of(self, session_id: str, *, is_used: bool = True) -> Held | None:
        """Who is signed in with this id. Raises StorageFailed.

        is_used: by a person, which keeps the session from ending for idleness.
        """
        key = self._hash(session_id)
        known = self._known(key)
        if known is None:
            return None
        if is_used and known.unseen_s > min(_NOTE_USE_S, self._settings.session_idle_s / 4):
            with contextlib.suppress(StorageFailed):  # the next request notes it
                self._sign_ins.seen(key)
                self._forget(key)
        if known.token_tag is not None:
            wanted = known.token_tag
            caller = self._bearers.known(lambda sha256: hmac.compare_digest(self._tag(sha256), wanted))
            return Held(caller=caller) if caller is not None else None
        if known.rights is None or known.account is None:
            return None
        rights, scope = known.rights, known.rights.scope
        if known.opened and may_open_patients(rights.role, self._settings):
            scope = replace(scope, opened=known.opened)
        return Held(
            caller=Caller(name=known.account, role=rights.role, scope=scope, names=rights.names),
            must_change=known.must_change,
            is_of_account=True,
            has_password=known.has_password,
            id_token=known.id_token,
        )

    def make(self, *, address: str, id_token: str | None = None) -> tuple[str, NewSession]:
        """An id that nobody had before, whatever the browser sent, and the session that may begin under it."""
        made = secrets.token_urlsafe(_BYTES)
        return made, NewSession(id_sha256=self._hash(made), address=address, id_token=id_token)

    def begin(self, account_id: int, verified: str | None, *, address: str) -> str:
        """A session of an account whose password fitted this hash. Raises SignInFailed where it is not its any more."""
        made, new = self.make(address=address)
        self._sign_ins.begin(new, account_id, verified)
        return made

    def begin_with_token(self, token: str, *, address: str) -> str:
        """The same with a token, which `bearers` has admitted; the session ends when it is revoked."""
        made, new = self.make(address=address)
        self._sign_ins.begin_with_token(new, self._tag(token_sha256(token.encode())))
        return made

    def end(self, session_id: str) -> None:
        key = self._hash(session_id)
        self._sign_ins.end(key)
        self._forget(key)

    def forget(self, session_id: str) -> None:
        """Read it anew with the next request: its rights have changed."""
        self._forget(self._hash(session_id))

    def secret(self, browser_id: str) -> str:
        """What the forms of a page repeat that was made for the browser with this id, signed in or not."""
        return hmac.new(key_of_sessions(self._settings), b"form " + browser_id.encode(), hashlib.sha256).hexdigest()

    def _known(self, key: str) -> KnownSession | None:
        with self._lock:
            if key in self._fresh:
                return self._fresh[key]
        asked_s = self._clock_s()
        try:
            found = self._sign_ins.session(key)
        except StorageFailed:
            with self._lock:
                lately = self._lately.get(key)
            if lately is None:
                raise
            known, opened_until_s = lately
            return known if self._clock_s() < opened_until_s else replace(known, opened=frozenset())
        left_s = found.opened_left_s if found is not None else None
        with self._lock:
            self._fresh[key] = found
            if found is not None:
                self._lately[key] = (found, asked_s + (math.inf if left_s is None else left_s))
            else:
                self._lately.pop(key, None)
        return found

    def _forget(self, key: str) -> None:
        with self._lock:
            self._fresh.pop(key, None)
            self._lately.pop(key, None)

    def _tag(self, sha256: str) -> str:
        return hmac.new(key_of_sessions(self._settings), sha256.encode(), hashlib.sha256).hexdigest()

    def _hash(self, session_id: str) -> str:
        """By what the catalogue knows a session: with another key, everybody signs in again."""
        return hmac.new(key_of_sessions(self._settings), b"session " + session_id.encode(), hashlib.sha256).hexdigest()
