"""multipart/related (RFC 2387, PS3.18 8.6): a reader with bounded memory and a writer that streams files."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from radir_pacs.errors import BadInput

_CHUNK_BYTES = 256 * 1024
_PART_HEADER_BYTES = 8 * 1024


class BrokenMultipart(BadInput):
    """The multipart body is malformed."""

    code = "broken_multipart"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: its headers with lower-case names, and its body, to be read to the end before the next part."""

    headers: Mapping[str, str]
    body: Iterator[bytes]


class Source(Protocol):
    """Where a body is read from; nothing more comes after an empty read."""

    def read(self, size: int = ..., /) -> bytes: ...


class MultipartReader:
    """Reads the parts of ``stream`` one after another; holds at most about two chunks of it at any time."""

    def __init__(self, stream: Source, boundary: str) -> None:
        if not 1 <= len(boundary) <= 200 or not boundary.isascii() or not boundary.isprintable():
            raise BrokenMultipart("the multipart boundary is missing or malformed")
        self._stream = stream
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter looks like the others

    def __iter__(self) -> Iterator[Part]:
        for _ in self._until_delimiter():
            pass  # the preamble
        while self._next_line() != b"--":
            body = self._until_delimiter()
            yield Part(headers=self._headers(), body=body)
            for _ in body:
                pass  # what the caller left unread

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


@dataclass(frozen=True, kw_only=True)
class FileSlice:
    """``length`` bytes of a file from ``offset`` on."""

    path: Path
    offset: int
    length: int


Body = Path | FileSlice | bytes


@dataclass(frozen=True, kw_only=True)
class OutgoingPart:
    """A part to send: its Content-Type, its body, and its Content-Location when it has one."""

    content_type: str
    body: Body
    location: str | None = None


class MultipartWriter:
    """The body of an answer, streamed: each part is asked for when the one before is sent."""

    def __init__(self, parts: Iterable[OutgoingPart], part_type: str) -> None:
        self._parts = parts
        self._boundary = secrets.token_hex(16)
        self.content_type = f'multipart/related; type="{part_type}"; boundary={self._boundary}'
        self._tail = f"--{self._boundary}--\r\n".encode()

    def length_of(self, parts: Sequence[OutgoingPart]) -> int:
        """The length in bytes of a body of these parts."""
        return sum(len(self._head(part)) + size_of(part.body) + 2 for part in parts) + len(self._tail)

    def _head(self, part: OutgoingPart) -> bytes:
        lines = [f"--{self._boundary}", f"Content-Type: {part.content_type}", f"Content-Length: {size_of(part.body)}"]
        if part.location:
            lines.append(f"Content-Location: {part.location}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield self._head(part)
            yield from chunks_of(part.body)
            yield b"\r\n"
        yield self._tail


def size_of(body: Body) -> int:
    """Its length in bytes."""
    match body:
        case bytes():
            return len(body)
        case FileSlice():
            return body.length
    return body.stat().st_size


def chunks_of(body: Body) -> Iterator[bytes]:
    """Its bytes, of a file a bounded piece at a time."""
    match body:
        case bytes():
            yield body
        case FileSlice(path=path, offset=offset, length=left):
            with path.open("rb") as file:
                file.seek(offset)
                while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
                    left -= len(chunk)
                    yield chunk
        case Path():
            with body.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
