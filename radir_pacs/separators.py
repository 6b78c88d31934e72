"""What parts the columns of a table: commas, or semicolons as spreadsheets write them where a comma is decimal."""

from __future__ import annotations

import re
from collections.abc import Collection

SEPARATORS = (",", ";", "\t")
BEGINNING = 65_536  # characters in which a header ends
_QUOTED = re.compile(r'(?:^|(?<=[,;\t\r\n]))"(?:[^"]|"")*("|$)')  # a quote within a field is an inch


def separator(text: str, wanted: Collection[str] = ()) -> str:
    """That of a table which begins as ``text`` does: by which its header, up to the first line break outside quotes,
    has most of the columns ``wanted``, or else falls into most parts; a comma where nothing tells."""
    bare = _QUOTED.sub(lambda quoted: quoted[0].replace("\n", " ").replace("\r", " "), text[:BEGINNING])
    header = bare.lstrip("\r\n").splitlines()[:1]
    line = header[0] if header else ""

    def fits(mark: str) -> tuple[int, int]:
        names = {name.strip().strip('"') for name in line.split(mark)}
        return len(names & set(wanted)), _QUOTED.sub("", line).count(mark)

    return max(SEPARATORS, key=fits)
