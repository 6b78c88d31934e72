"""Refuses request bodies while they arrive, before they fill the disk: those without a token, or too many at once.

The application sees a request only when its body is complete, and bodies wait in files. So a sender without a token is
refused by the header alone, and all bodies together have a bound.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

SMALL_BODY_BYTES = 64 * 1024  # kept in memory and left to the application
_CHUNK_HEADER_BYTES = 1024  # RFC 9112 7.1.1: a server ought to limit chunk extensions
_TRAILER_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Body:
    """A body that is arriving. ``length``: as announced, None when chunked. The other fields: bytes received so far."""

    authorization: str
    length: int | None
    chunk_header: int = 0
    trailer: int = 0


@dataclass(frozen=True, kw_only=True)
class BodyGuard:
    """``tokens``: those that admit a request; none: all of this machine may send. ``most_bytes``: of all bodies."""

    tokens: tuple[bytes, ...]
    most_bytes: int

    def fault(self, body: Body, all_bytes: int) -> tuple[int, str] | None:
        """The status to refuse it with, and why; None while it may continue. ``all_bytes``: received for all bodies."""
        if body.chunk_header > _CHUNK_HEADER_BYTES or body.trailer > _TRAILER_BYTES:
            return 400, "a chunk header or trailer does not end"
        is_large = body.length is None or body.length > SMALL_BODY_BYTES
        if is_large and self.tokens and not gives_one_of(body.authorization, self.tokens):
            return 401, "a token is needed, as bearer, before so much is sent"
        if all_bytes > self.most_bytes:
            return 503, "too many large requests arrive at once; try again later"
        return None


def gives_one_of(authorization: str, tokens: Sequence[bytes]) -> bool:
    """Whether the header bears one of ``tokens``, as bearer (RFC 6750) or as Basic password (RFC 7617)."""
    scheme, _, given = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            presented = given.strip().encode("utf-8", "replace")
        case "basic":
            presented = _basic_password(given.strip())
        case _:
            presented = b""
    matches = [hmac.compare_digest(presented, token) for token in tokens]  # all of them, in constant time
    return any(matches)


def _basic_password(credentials: str) -> bytes:
    """Empty when they are malformed; no token is."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
