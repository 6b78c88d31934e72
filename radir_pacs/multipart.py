"""multipart/related (RFC 2387, PS3.18 8.6) read with bounded memory, whoever sends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from radir_pacs.errors import BadInput, TooLarge

MOST_PARTS = 10_000  # of one request; each takes time, however small
_CHUNK_BYTES = 256 * 1024
_PART_HEADER_BYTES = 8 * 1024


class BrokenMultipart(BadInput):
    """The multipart body is malformed."""

    code = "broken_multipart"


class TooManyParts(TooLarge):
    """The multipart body has too many parts."""

    code = "too_many_parts"


@dataclass(frozen=True, kw_only=True)
class MimePart:
    """One part: its headers with lower-case names, and its body, to be read to the end before the next part."""

    headers: Mapping[str, str]
    body: Iterator[bytes]


class Source(Protocol):
    """Where a body is read from; nothing more comes after an empty read."""

    def read(self, size: int, /) -> bytes: ...


class MultipartReader:
    """Reads the parts of ``stream`` one after another; holds at most about two chunks of it at any time."""

    def __init__(self, stream: Source, boundary: str, *, most_parts: int = MOST_PARTS) -> None:
        if not 1 <= len(boundary) <= 200 or not boundary.isascii() or not boundary.isprintable():
            raise BrokenMultipart("the multipart boundary is missing or malformed")
        self._stream, self._most_parts = stream, most_parts
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter looks like the others

    def __iter__(self) -> Iterator[MimePart]:
        for _ in self._until_delimiter():
            pass  # the preamble
        parts = 0
        while self._next_line() != b"--":
            parts += 1
            if parts > self._most_parts:
                raise TooManyParts(f"the multipart body has more than {self._most_parts} parts")
            body = self._until_delimiter()
            yield MimePart(headers=self._headers(), body=body)
            for _ in body:
                pass  # discard what the caller left unread

    def _next_line(self) -> bytes:
        """What follows a delimiter: nothing before a part, two hyphens after the last one."""
        self._need(1)
        if self._buffer.startswith(b"\n"):
            raise BrokenMultipart("the lines of the multipart body end with LF alone, not with CR LF (RFC 2046 5.1.1)")
        self._need(2)
        if self._buffer.startswith(b"--"):
            return b"--"
        line = self._take_through(b"\r\n", 256)
        if line.strip(b" \t"):
            raise BrokenMultipart
        return b""

    def _headers(self) -> dict[str, str]:
        self._need(2)
        if self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
            return {}
        lines = self._take_through(b"\r\n\r\n", _PART_HEADER_BYTES).decode("latin-1").split("\r\n")
        named = (line.partition(":") for line in lines)
        return {name.strip().lower(): value.strip() for name, _, value in named}

    def _until_delimiter(self) -> Iterator[bytes]:
        held_back = len(self._delimiter) - 1  # may be the start of a delimiter
        while True:
            at = self._buffer.find(self._delimiter)
            if at >= 0:
                body = bytes(self._buffer[:at])
                del self._buffer[: at + len(self._delimiter)]
                if body:
                    yield body
                return
            if len(self._buffer) > held_back:
                body = bytes(self._buffer[:-held_back])
                del self._buffer[:-held_back]
                yield body
            self._fill()

    def _take_through(self, end: bytes, limit: int) -> bytes:
        """The bytes before ``end``, which is taken off as well."""
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > limit:
                raise BrokenMultipart("the header of a part is too long")
            self._fill()
        if at > limit:
            raise BrokenMultipart("the header of a part is too long")
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken

    def _need(self, count: int) -> None:
        while len(self._buffer) < count:
            self._fill()

    def _fill(self) -> None:
        chunk = self._stream.read(_CHUNK_BYTES)
        if not chunk:
            raise BrokenMultipart("the multipart body ends before its last boundary")
        self._buffer += chunk
