"""What parts the columns of a table: commas, or semicolons as spreadsheets write them where a comma is decimal."""

from __future__ import annotations

import re

SEPARATORS = (",", ";", "\t")
_QUOTED = re.compile(r'"[^"]*"')


def separator(header: str) -> str:
    """The one that stands most often in the first line outside quotes; a comma where none does."""
    bare = _QUOTED.sub("", header)
    return max(SEPARATORS, key=bare.count)
