"""MLLP: messages between <VT> and <FS><CR> (HL7 Transport Specification: MLLP, Release 1), and batches inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from radir_pacs.errors import TooLarge

START, END = b"\x0b", b"\x1c"
_ANEW = START + b"MSH"  # a sender gave up a message in the middle and begins anew; a lone <VT> is a line break
_LINE = re.compile(rb"[\r\n]+")


class Frames:
    """Takes bytes as they arrive and gives whole messages; what stands between messages is dropped.

    A message ends with <FS>; the <CR> after it is awaited by nobody.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._buffer = bytearray()
        self.is_inside = False

    @property
    def nbytes(self) -> int:
        """Bytes of the message that arrives."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Messages that are complete with ``data``. Raises TooLarge; nothing can be read after that."""
        while data:
            if not self.is_inside:
                _, start, data = data.partition(START)
                self.is_inside = bool(start)
                continue
            part, end, data = data.partition(END)
            self._buffer += part
            if len(self._buffer) > self._most_bytes:
                raise TooLarge(f"the message is larger than {self._most_bytes >> 20} MiB")
            if end:
                message = bytes(self._buffer[max(self._buffer.rfind(_ANEW), 0) :]).removeprefix(START)
                self._buffer.clear()
                self.is_inside = False
                yield message


def framed(message: bytes) -> bytes:
    return START + message + END + b"\r"


def is_batch(raw: bytes) -> bool:
    """Whether messages stand in a batch or file (HL7 2.9, 2.10.3), or follow one another without one."""
    begins = raw.lstrip(b" \r\n\t")
    return begins[:3] in (b"FHS", b"BHS") or len(_messages(raw)) > 1


def split_batch(raw: bytes) -> list[bytes]:
    """The messages of a batch or file, without its headers and trailers."""
    return _messages(raw)


def _messages(raw: bytes) -> list[bytes]:
    found: list[list[bytes]] = []
    for line in _LINE.split(raw):
        if line.startswith(b"MSH"):
            found.append([line])
        elif found and not re.match(rb"(?:FHS|BHS|FTS|BTS)(?:\W|\Z)", line):
            found[-1].append(line)
    return [b"\r".join(lines) for lines in found]
