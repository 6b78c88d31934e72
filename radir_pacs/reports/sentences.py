"""Sentence boundaries of dictated reports: lists, missing spaces, quotes as bullets, abbreviations, line wraps."""

from __future__ import annotations

import re
from collections.abc import Iterator

from radir_pacs.reports.findings import Span
from radir_pacs.reports.lines import ends_statement, widths

# A full stop ends a sentence before white space, at the end, or where the space was forgotten ("apex.There").
# A question mark inside a sentence marks doubt, so it ends one only before a capital that is not an answer to it.
# Bullets and, outside of quotations, quotes separate the items of an impression. For line ends see lines.py.
_BOUNDARY = re.compile(
    r"(?P<stop>\.)(?=[>\])}]*(?:\s|$|[\"”]))|(?P<glued>(?<=[a-z)])\.)(?=[A-Z][a-z])|[!?](?=\s+[A-Z]|\s*$)(?!\s*(?:No|Yes|None|Absent|Present)\b)|"
    r"(?P<quote>[\"“”]+)|[•*]+|(?P<line>\n\s*)|(?<=\s)\d{1,2}[.)](?=\s+[A-Z])|;(?=\s+(?:No|no)\b)|--+(?=\s+[A-Z])(?!\s*(?:No|None|Nil|Yes|Absent|Present|Negative|Normal)\b)"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|mr|mrs|ms|vs|e\.g|i\.e|approx|resp|st|no|ca|max|min|cf|incl|ser|img|im|se|fig)|\b[A-Z])$",
    re.IGNORECASE,
)
_SIGN = re.compile(r"[.!?\"“”•*\n;\d]")  # where a boundary may begin; faster to find than a boundary
_SIGN_OR_DASH = re.compile(r"[-.!?\"“”•*\n;\d]")
# Abbreviations, which do not end a sentence before a lower-case letter; "PTX neg. Effusion neg." are two sentences.
_SHORTENED = re.compile(
    r"\b(?:lt|rt|sl|bilat|mod|neg|pos|lg|sm|hx|fx|esp|incl|mult|pl|eff|pulm|resp|susp|poss|prob|w|post|ant|lat|inf|sup|"
    r"abn|cardiomed|consol|atelec|min|yr|yo|pt|s|evid|dz)$",
    re.IGNORECASE,
)
_SAID = re.compile(r"\S")
_REACH = 200  # characters around a quote that are searched for what it encloses
_NEGATIVE_NO = re.compile(r"\bno$", re.IGNORECASE)
_ENUMERATOR = re.compile(r"\s*(?:\d{1,2}[.)](?!\d)|[-•*>](?!ve\b))?\s*")


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """Spans of the sentences of ``text[start:end]``, without surrounding white space and list numbers."""
    end = len(text) if end is None else end
    begin = read = start
    paragraphs = widths(text, start, end) if text.find("\n", start, end) >= 0 else []
    signs = _SIGN_OR_DASH if "--" in text else _SIGN
    for sign in signs.finditer(text, start, end):
        match = _BOUNDARY.match(text, sign.start(), end) if sign.start() >= read else None
        if match is None:
            continue
        read = match.end()
        if match["stop"] and _is_abbreviation(text, begin, match.start(), end):
            continue
        if match[0] == "?" and not _SAID.search(text, begin, match.start()):
            continue  # "? pneumonia" doubts what follows
        if match["quote"] and _is_inside(text, begin, match, end):
            continue
        if match["line"] and match.end() < end and _SAID.search(text, begin, match.start()):
            while len(paragraphs) > 1 and paragraphs[0][0] <= match.start():
                paragraphs.pop(0)
            lead = _ENUMERATOR.match(text, begin, end)
            if not ends_statement(text, lead.end() if lead else begin, match.start(), match.end(), paragraphs[0][1]):
                continue
        yield from _trimmed(text, begin, match.start())
        begin = match.end()
    yield from _trimmed(text, begin, end)


def _is_inside(text: str, begin: int, quote: re.Match[str], end: int) -> bool:
    """Whether a quote is inside a sentence ('no "pneumothorax" is seen') and not between two items."""
    before = text[max(begin, quote.start() - _REACH) : quote.start()].rstrip()
    after = text[quote.end() : min(end, quote.end() + _REACH)].lstrip()
    if not before or not after or after[0] in '"“':
        return False
    if before[-1] in ".!?" or (
        text[quote.start() - 1].isspace() and (after[0].isupper() or after[0].isdigit()) and text[quote.end()].isspace()
    ):
        return False
    opened = sum(before.count(mark) for mark in '"“”') % 2
    return bool(opened) or quote[0] == "“" or (text[quote.start() - 1].isspace() and not after[0].isspace())


def _is_abbreviation(text: str, begin: int, stop: int, end: int) -> bool:
    before = text[max(begin, stop - 8) : stop]
    if before.strip().isdigit() and not text[begin:stop].strip(" \t\n").isdigit():
        return False  # "... measures 5." ends; "1." alone is a list number
    if _SHORTENED.search(before) and text[stop + 1 : min(end, stop + 3)].strip()[:1].islower():
        return True
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
