"""Whose token a request bears: tokens of the settings, which administer, and tokens by name from the catalogue.

Every process keeps the hashes of the tokens in force and reads them again once a second when it is asked, so that a
revoked token is refused within that time and a request costs no round trip. As soon as any token or account was ever
made, one is needed for good.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import threading
import time
from collections.abc import Callable

from radir_pacs.callers import Caller, Role
from radir_pacs.catalogue import AccessTokens, KnownToken, token_sha256
from radir_pacs.config import Settings
from radir_pacs.errors import StorageFailed

FRESH_S = 1.0
STALE_S = 60.0  # without the database, tokens read longer ago than this are not believed
_NOTE_USE_S = 60.0
OF_SETTINGS = "settings"


class Bearers:
    """Safe for many threads."""

    def __init__(self, tokens: AccessTokens, settings: Settings, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._tokens, self._clock_s = tokens, clock_s
        self._set = {token_sha256(token.encode()) for token in settings.api_tokens}
        self._are_set = bool(self._set or settings.oidc_issuer)
        self._made: dict[str, KnownToken] | None = None
        self._read_s = self._noted_s = float("-inf")
        self._used: set[int] = set()
        self._reading = threading.Lock()

    @property
    def are_needed(self) -> bool:
        """Whether a request needs a token or a session. Raises StorageFailed."""
        return self._are_set or self._in_force() is not None

    def of(self, authorization: str) -> Caller | None:
        """Who is named by the token in this header, as bearer (RFC 6750) or as Basic password (RFC 7617).

        Raises StorageFailed when the tokens cannot be read.
        """
        given = _token_in(authorization)
        if not given:
            return None
        key = token_sha256(given)
        if key in self._set:
            return Caller(name=OF_SETTINGS, role=Role.ADMINISTRATOR)
        return self._caller((self._in_force() or {}).get(key))

    def known(self, is_it: Callable[[str], bool]) -> Caller | None:
        """Whose token in force has the hash that ``is_it`` tells; for sessions, which keep neither token nor hash.

        Raises StorageFailed when the tokens cannot be read.
        """
        if any(map(is_it, self._set)):
            return Caller(name=OF_SETTINGS, role=Role.ADMINISTRATOR)
        return self._caller(next((token for key, token in (self._in_force() or {}).items() if is_it(key)), None))

    def _caller(self, found: KnownToken | None) -> Caller | None:
        if found is None:
            return None
        self._used.add(found.id)
        return Caller(name=found.name, role=found.role, scope=found.scope, names=found.names)

    def may_send(self, authorization: str) -> bool:
        """Whether a large body may begin to arrive; for the thread that serves all connections, which must not wait.

        Decided by what is known. Where tokens by name are in use and what is known of them is not fresh, an unknown one
        may be new: its body goes on while they are read aside, and the next question about it decides. `of` has the
        last word.
        """
        is_fresh = self._clock_s() - self._read_s <= FRESH_S
        if not is_fresh:
            self._read_aside()
        made = self._made
        if not self._are_set and made is None:
            return True
        given = _token_in(authorization)
        key = token_sha256(given)
        return bool(given) and (key in self._set or (made is not None and (key in made or not is_fresh)))

    def _read_aside(self) -> None:
        def read() -> None:
            try:
                with contextlib.suppress(StorageFailed):  # the next question tries again
                    self._read(self._clock_s())
            finally:
                self._reading.release()

        if self._reading.acquire(blocking=False):
            threading.Thread(target=read, name="tokens", daemon=True).start()

    def _in_force(self) -> dict[str, KnownToken] | None:
        now_s = self._clock_s()
        if now_s - self._read_s > FRESH_S:
            is_stale = now_s - self._read_s > STALE_S
            if self._reading.acquire(blocking=is_stale):  # another thread reads: what it replaces is good enough
                try:
                    self._read(now_s)
                except StorageFailed:
                    if is_stale:
                        raise
                finally:
                    self._reading.release()
        return self._made

    def _read(self, now_s: float) -> None:
        if now_s - self._read_s <= FRESH_S:  # done while we waited
            return
        self._made, self._read_s = self._tokens.in_force(), now_s
        if self._used and now_s - self._noted_s > _NOTE_USE_S:
            used, self._used, self._noted_s = self._used, set(), now_s
            with contextlib.suppress(StorageFailed):  # the tokens were read, which is what matters
                self._tokens.used(used)


def _token_in(authorization: str) -> bytes:
    """Empty when there is none; no token is."""
    scheme, _, given = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return given.strip().encode("utf-8", "replace")
        case "basic":
            return _basic_password(given.strip())
    return b""


def _basic_password(credentials: str) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
