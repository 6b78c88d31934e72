"""Sentence boundaries of dictated reports: lists, missing spaces, quotes as bullets, abbreviations, line wraps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from radir_pacs.reports.findings import Span
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.lines import ends_statement, widths
from radir_pacs.reports.writing import Writing

_SIGN = re.compile(r"[.!?\"“”•*\n;\d]")  # where a boundary may begin; faster to find than a boundary
_SIGN_OR_DASH = re.compile(r"[-.!?\"“”•*\n;\d]")
_MEASURE = re.compile(r"\s*\d{1,3}(?:[.,]\d{1,2})?\s*(?:[x×]|mm\b|cm\b)")  # "Erguss re. 2 cm"
_GOES_ON = frozenset("<>=")  # "Pleuraerguss li. > re."
_SAID = re.compile(r"\S")
_REACH = 200  # characters around a quote that are searched for what it encloses
_ENUMERATOR = re.compile(r"\s*(?:\d{1,2}[.)](?!\d)|[-•*>](?!ve\b))?\s*")


def sentences(text: str, start: int = 0, end: int | None = None, writing: Writing | None = None) -> Iterator[Span]:
    """Spans of the sentences of ``text[start:end]``, without surrounding white space and list numbers.

    writing: how the text's language is written; None: English.
    """
    writing = writing or load().writing
    boundary = writing.boundary
    end = len(text) if end is None else end
    begin = read = start
    paragraphs = widths(text, start, end) if text.find("\n", start, end) >= 0 else []
    signs = _SIGN_OR_DASH if "--" in text else _SIGN
    for sign in signs.finditer(text, start, end):
        at = sign.start()
        if at < read or (match := boundary.match(text, at, end)) is None:
            continue
        read = match.end()
        kind = match.lastgroup
        if kind in ("stop", "glued") and _is_abbreviation(text, begin, match.start(), end, writing):
            continue
        if kind == "number" and writing.ordinal.match(text, match.end() - 1):
            continue  # "Fraktur der 3. Rippe"
        if kind is None and match[0] == "?" and not _SAID.search(text, begin, at):
            continue  # "? pneumonia" doubts what follows
        if kind == "quote" and _is_inside(text, begin, match, end):
            continue
        if kind == "line" and match.end() < end and _SAID.search(text, begin, match.start()):
            while len(paragraphs) > 1 and paragraphs[0][0] <= match.start():
                paragraphs.pop(0)
            lead = _ENUMERATOR.match(text, begin, end)
            if not ends_statement(
                text, lead.end() if lead else begin, match.start(), match.end(), paragraphs[0][1], writing
            ):
                continue
        if span := _trimmed(text, begin, match.end() if match[0] == "?" else at):  # "Pneumonia?" doubts
            yield span
        begin = match.end()
    if span := _trimmed(text, begin, end):
        yield span


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


def _is_abbreviation(text: str, begin: int, stop: int, end: int, writing: Writing) -> bool:
    before = text[max(begin, stop - 8) : stop]
    if before[-1:].isdigit() and writing.ordinal.match(text, stop):
        return True
    shortened, abbreviated = _shortens(before, writing)
    if not (shortened or abbreviated):
        return False
    following = text[stop + 1 : min(end, stop + 3)].strip()
    if before.strip().isdigit() and not text[begin:stop].strip(" \t\n").isdigit():
        return False  # "... measures 5." ends; "1." alone is a list number
    if shortened:
        if following[:1].islower() or following[:1] in _GOES_ON:
            return True
        if writing.continued.match(text, stop + 1, end) or _MEASURE.match(text, stop + 1, end):
            return True
    if not abbreviated:
        return False
    return bool(following) and not (writing.negative.search(before) and following[0].isalpha())


@lru_cache(maxsize=50_000)
def _shortens(before: str, writing: Writing) -> tuple[bool, bool]:
    """Whether the end of ``before`` is a word that is shortened, and whether it is an abbreviation."""
    return writing.shortened.search(before) is not None, writing.abbreviation.search(before) is not None


def _trimmed(text: str, begin: int, end: int) -> Span | None:
    """The span without white space and list numbers around it; None where hardly anything is left."""
    if text[begin : begin + 1] == " " and text[begin + 1 : begin + 2].isalpha():
        begin += 1  # as nearly every sentence
    elif lead := _ENUMERATOR.match(text, begin, end):
        begin = lead.end()
    while end > begin and text[end - 1].isspace():
        end -= 1
    return (begin, end) if end - begin > 1 else None
