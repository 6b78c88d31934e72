"""Refuses request bodies while they arrive, before they fill the disk: those without a token, or too many at once.

The application sees a request only when its body is complete, and bodies wait in files. So a sender without a token is
refused by the header alone, and all bodies together have a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from radir_pacs.access.bearers import Bearers

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
    """``most_bytes``: of all bodies."""

    bearers: Bearers
    most_bytes: int

    def fault(self, body: Body, all_bytes: int) -> tuple[int, str] | None:
        """The status to refuse it with, and why; None while it may continue. ``all_bytes``: received for all bodies."""
        if body.chunk_header > _CHUNK_HEADER_BYTES or body.trailer > _TRAILER_BYTES:
            return 400, "a chunk header or trailer does not end"
        is_large = body.length is None or body.length > SMALL_BODY_BYTES
        if is_large and not self.bearers.may_send(body.authorization):
            return 401, "a token is needed, as bearer, before so much is sent"
        if all_bytes > self.most_bytes:
            return 503, "too many large requests arrive at once; try again later"
        return None
