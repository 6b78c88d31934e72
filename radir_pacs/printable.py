"""Counted nouns; and text from outside, made harmless for a terminal and for a spreadsheet.

An AE title or a reader's remark may hold ESC, which moves a terminal's cursor, or begin like a formula, which a
spreadsheet runs when somebody opens the table (CWE-1236).
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Mapping
from typing import IO, Any

_FORMULA = frozenset("=+-@\t\r\uff1d\uff0b\uff0d\uff20")  # and their full-width forms, which some spreadsheets take too
_CONTROLS = frozenset({"Cc", "Cf"})  # also those that change the direction of writing


def printable(text: str) -> str:
    """Without control characters, each shown as U+FFFD; line ends and tabs stay."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _CONTROLS else "\ufffd" for c in text)


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 study``, ``2 studies``; ``plural`` where the noun does not simply take an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def cell(value: Any) -> Any:
    """A value as a CSV file may hold it: text that begins like a formula gets an apostrophe, numbers stay."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text[:1] in _FORMULA and not _is_number(text) else text


class TableWriter:
    """Rows of a CSV table for people and their spreadsheets, every cell made harmless."""

    def __init__(self, file: IO[str], columns: Iterable[str], *, lineterminator: str = "\n") -> None:
        self._writer = csv.DictWriter(file, list(columns), extrasaction="ignore", lineterminator=lineterminator)
        self._writer.writerow({column: cell(column) for column in self._writer.fieldnames})

    def row(self, values: Mapping[str, Any]) -> None:
        self._writer.writerow({column: cell(value) for column, value in values.items()})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
