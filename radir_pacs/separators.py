"""Tables as text: their encoding, line ends and first line, and the separator of their columns.

Spreadsheets write commas, or semicolons where a comma is decimal; UTF-8, UTF-16 or Windows-1252; and lines that end in
CR, LF or both. Every table that is read here is read by these functions.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TextIO

SEPARATORS = (",", ";", "\t")
BEGINNING = 65_536  # characters within which a header ends
_SNIFFED = 4_096  # bytes; even, so that a UTF-16 character is not cut
_FALLBACK = "radir-windows-1252"
_NUL_SHARE = 0.3  # of the bytes at even or at odd places, in UTF-16 of a European language
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, with whose mark it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_QUOTED = re.compile(r'(?:^|(?<=[,;\t\r\n]))"(?:[^"]|"")*("|$)')  # a quote within a field is an inch
_NO_HEADER = re.compile(r'[\s,;"]*(?:"?sep=.?"?)?[\s,;"]*', re.IGNORECASE)  # also a spreadsheet's own "sep=" line


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", errors="replace"), error.end


codecs.register_error(_FALLBACK, _as_windows_1252)


def decoded(data: bytes) -> str:
    """``data`` as text with "\n" for line ends: by its byte order mark, as UTF-16 where its NULs tell, else as UTF-8;
    bytes that are not UTF-8 are Windows-1252, the usual culprit."""
    text = data.decode(_encoding(data[:_SNIFFED]), errors=_FALLBACK if _is_utf8(data) else "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def opened(path: Path) -> TextIO:
    """A table as a stream of the same text; one that is compressed (".gz") as what it holds. Raises OSError."""
    file = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 - the caller closes it
    try:
        data = file.read(_SNIFFED)
        file.seek(0)
    except BaseException:  # an interrupt too
        file.close()
        raise
    errors = _FALLBACK if _is_utf8(data) else "replace"
    return io.TextIOWrapper(file, encoding=_encoding(data), errors=errors)


def header_at(lines: Sequence[str]) -> int:
    """The index of the header among the first ``lines``: after empty ones, and after a spreadsheet's "sep=;"."""
    return next((at for at, line in enumerate(lines) if not _NO_HEADER.fullmatch(line)), 0)


def _is_utf8(data: bytes) -> bool:
    return _encoding(data[:_SNIFFED]).startswith("utf-8")


def _encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    half = len(data) // 2
    if half and data[1::2].count(0) > _NUL_SHARE * half > data[::2].count(0):
        return "utf-16-le"
    if half and data[::2].count(0) > _NUL_SHARE * half > data[1::2].count(0):
        return "utf-16-be"
    return "utf-8"


def separator(text: str, wanted: Collection[str] = ()) -> str:
    """That of a table which begins as ``text`` does: by which its header, up to the first line break outside quotes,
    has most of the columns ``wanted``, or else falls into most parts; a comma where nothing tells."""
    bare = _QUOTED.sub(lambda quoted: quoted[0].replace("\n", " ").replace("\r", " "), text[:BEGINNING])
    lines = bare.splitlines()
    line = lines[header_at(lines)] if lines else ""

    def fits(mark: str) -> tuple[int, int]:
        names = {name.strip().strip('"') for name in line.split(mark)}
        return len(names & set(wanted)), _QUOTED.sub("", line).count(mark)

    return max(SEPARATORS, key=fits)
