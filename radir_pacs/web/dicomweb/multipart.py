"""multipart/related (RFC 2387, PS3.18 8.6): a writer that streams files."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 256 * 1024


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
