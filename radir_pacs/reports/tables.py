"""Report collections on disk: a CSV file or a folder of text files, read so that one bad row costs one row.

Broken quotes, wrong column counts, binary or oversized texts end in a ``BadRow`` that names the line; the rows around
it are read. Of encodings and line ends see radir_pacs/separators.py.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from radir_pacs.errors import BadInput
from radir_pacs.separators import decoded, header_at, opened, separator

MAX_TEXT = 1_000_000  # characters of one report; no report is that long
_MAX_LINES = 2_000  # physical lines of one record
_MAX_CONTROL_SHARE = 0.05
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffd]")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRow:
    """``where`` names the row for messages: a line number or a file name, never its content."""

    where: str
    id: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    where: str
    reason: str


def read_reports(source: Path, id_column: str | None, text_columns: Sequence[str]) -> Iterator[TextRow | BadRow]:
    """The reports of a CSV file, or of the ``.txt`` files below a folder (their id is the name without ending).

    Raises BadInput if the source does not exist or lacks a column.
    """
    if source.is_dir():
        return _folder(source)
    if not source.is_file():
        raise BadInput(f"there is no file or folder {source}")
    if not id_column or not text_columns:
        raise BadInput("a CSV file needs --id COLUMN and --text COLUMN[,COLUMN…]")
    return _table(source, id_column, text_columns)


def _folder(folder: Path) -> Iterator[TextRow | BadRow]:
    for path in sorted(folder.rglob("*.txt")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.stat().st_size > 4 * MAX_TEXT:
            yield BadRow(where=name, reason="longer than a report can be")
            continue
        yield _checked(name, name, decoded(path.read_bytes()))


def _table(path: Path, id_column: str, text_columns: Sequence[str]) -> Iterator[TextRow | BadRow]:
    with opened(path) as file:
        lines = file.readlines()
    parted = separator("".join(lines[:_MAX_LINES]), (id_column, *text_columns))
    header, first = _record(lines, header_at(lines[:_MAX_LINES]), parted)
    if header is None:
        raise BadInput("the first line of the CSV file is no header")
    missing = [column for column in (id_column, *text_columns) if column not in header]
    if missing:
        raise BadInput(f"the CSV file has no column {', '.join(map(repr, missing))}; it has {', '.join(header)}")
    places = [(column, header.index(column)) for column in text_columns]
    return _rows(lines, first, parted, len(header), header.index(id_column), places)


def _rows(
    lines: list[str], first: int, parted: str, width: int, id_at: int, places: Sequence[tuple[str, int]]
) -> Iterator[TextRow | BadRow]:
    at = first
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        where = f"line {at + 1}"
        record, following = _record(lines, at, parted)
        if record is None:
            yield BadRow(where=where, reason="broken quotes")
        elif len(record) != width:
            yield BadRow(where=where, reason=f"{len(record)} columns where the header has {width}")
        else:
            parts = [(name, record[place]) for name, place in places if record[place].strip()]
            text = "\n\n".join(f"{name.upper()}: {part}" if len(places) > 1 else part for name, part in parts)
            yield _checked(where, record[id_at], text)
        at = following


def _record(lines: list[str], at: int, parted: str) -> tuple[list[str] | None, int]:
    """The record that begins on line ``at``, and the line after it; None and the next line if its quotes are broken."""
    text = ""
    for end in range(at, min(len(lines), at + _MAX_LINES)):
        text += lines[end]
        if len(text) > 4 * MAX_TEXT:
            break
        if text.count('"') % 2 == 0:
            try:
                return next(csv.reader([text], delimiter=parted, strict=True)) if text.strip() else None, end + 1
            except (csv.Error, StopIteration):
                break
    return None, at + 1


def _checked(where: str, key: str, text: str) -> TextRow | BadRow:
    if not key.strip():
        return BadRow(where=where, reason="no id")
    if len(text) > MAX_TEXT:
        return BadRow(where=where, reason="longer than a report can be")
    control = len(_CONTROL.findall(text))
    if "\0" in text or control > _MAX_CONTROL_SHARE * len(text):
        return BadRow(where=where, reason="binary, not text")
    return TextRow(where=where, id=key, text=text)


csv.field_size_limit(max(csv.field_size_limit(), 4 * MAX_TEXT))
