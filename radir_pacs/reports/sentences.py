"""Sentence boundaries of dictated reports: lists, missing spaces, quotes as bullets, abbreviations, line wraps."""

from __future__ import annotations

import re
from collections.abc import Iterator

from radir_pacs.reports.findings import Span

# A full stop ends a sentence before white space, at the end, or where the space was forgotten ("apex.There").
# A question mark inside a sentence marks doubt, so it ends one only before a capital. Quotes and bullets stand between
# the items of an impression; an empty line or a line that starts a list item ends a sentence without any stop.
_BOUNDARY = re.compile(
    r"(?P<stop>\.)(?=\s|$|[\"”])|(?P<glued>(?<=[a-z)])\.)(?=[A-Z][a-z])|[!?](?=\s+[A-Z]|\s*$)|[\"“”•*]+|\n\s*\n|"
    r"\n(?=\s*(?:[-•*]|\d{1,2}[.)])\s)|(?<=\s)\d{1,2}[.)](?=\s+[A-Z])"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mr|mrs|ms|vs|e\.g|i\.e|approx|resp|st|no|ca|max|min|cf|incl)|\b[A-Z])$", re.IGNORECASE
)
_NEGATIVE_NO = re.compile(r"\bno$", re.IGNORECASE)
_ENUMERATOR = re.compile(r"\s*(?:\d{1,2}[.)]|[-•*])?\s*")


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """Spans of the sentences of ``text[start:end]``, without surrounding white space and list numbers."""
    end = len(text) if end is None else end
    begin = start
    for match in _BOUNDARY.finditer(text, start, end):
        if match["stop"] and _is_abbreviation(text, begin, match.start(), end):
            continue
        yield from _trimmed(text, begin, match.start())
        begin = match.end()
    yield from _trimmed(text, begin, end)


def _is_abbreviation(text: str, begin: int, stop: int, end: int) -> bool:
    before = text[max(begin, stop - 8) : stop]
    if before.strip().isdigit() and not text[begin:stop].strip(" \t\n").isdigit():
        return False  # "... measures 5." ends; "1." alone is a list number
    if not _ABBREVIATION.search(before):
        return False
    following = text[stop + 1 : min(end, stop + 3)].strip()
    return bool(following) and not (_NEGATIVE_NO.search(before) and following[0].isalpha())


def _trimmed(text: str, begin: int, end: int) -> Iterator[Span]:
    lead = _ENUMERATOR.match(text, begin, end)
    begin = lead.end() if lead else begin
    while end > begin and text[end - 1].isspace():
        end -= 1
    if end - begin > 1:
        yield begin, end
