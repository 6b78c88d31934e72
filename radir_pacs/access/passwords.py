"""Passwords: what one must be, and how it is kept (argon2id with the parameters of RFC 9106, 4).

Length is all that is asked: rules about kinds of characters make passwords that are easier to guess (NIST SP 800-63B,
3.1.1.2).
"""

from __future__ import annotations

import os
import secrets
import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from radir_pacs.errors import BadInput, NotReady

LEAST, MOST = 12, 256  # characters
_AT_ONCE = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))  # each takes 64 MiB while it is computed
_WAIT_S = 5.0
_hasher = PasswordHasher()


def check(password: str, name: str) -> None:
    """Raise BadInput for a password that is too easily guessed for this account, or too long."""
    if len(password) < LEAST:
        raise BadInput(f"a password has at least {LEAST} characters; several words are easily remembered")
    if len(password) > MOST:
        raise BadInput(f"a password has at most {MOST} characters")
    if password.casefold().strip() in {name.casefold(), name.casefold()[::-1]} or len(set(password)) < 3:
        raise BadInput("this password is guessed at once: choose another one")


def made_up() -> str:
    """A password of 120 random bits for somebody who shall choose another."""
    return "-".join(secrets.token_hex(3) for _ in range(5))


def hashed(password: str) -> str:
    """As it is kept. Raises NotReady when too many are computed at once."""
    with _turn():
        return _hasher.hash(_normal(password))


def fits(password: str, kept: str | None) -> bool:
    """Whether it is the password; False for None, after the time that a wrong one takes. Raises NotReady."""
    stand_in = _stand_in()
    with _turn():
        try:
            _hasher.verify(kept or stand_in, _normal(password[: 4 * MOST]))
        except (VerificationError, InvalidHashError):
            return False
    return kept is not None


def is_outdated(kept: str) -> bool:
    """Whether it was computed with other parameters than those of today."""
    return _hasher.check_needs_rehash(kept)


@cache
def _stand_in() -> str:
    """What the password of an account that there is not is compared with."""
    return _hasher.hash(secrets.token_urlsafe())


class _turn:
    def __enter__(self) -> None:
        if not _AT_ONCE.acquire(timeout=_WAIT_S):
            raise NotReady("too many people sign in at once: try again")

    def __exit__(self, *_: object) -> None:
        _AT_ONCE.release()


def _normal(password: str) -> str:
    """Keyboards write the same letter in several ways (RFC 8265, 4.2)."""
    return unicodedata.normalize("NFC", password)
