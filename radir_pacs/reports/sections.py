"""Sections of a report, found by their headings in many styles; a text without headings is one section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """``name`` is one of the lexicon's section names, or "report" for text before or without any heading."""

    name: str
    start: int
    end: int


def split_sections(text: str, headings: Mapping[str, str]) -> tuple[Section, ...]:
    """Cut ``text`` at its headings; ``headings`` maps heading words (lower case) to section names."""
    pattern = _pattern(tuple(sorted(headings, key=len, reverse=True)))
    sections: list[Section] = []
    name, start = "report", 0
    for match in pattern.finditer(text):
        if text[start : match.start()].strip():
            sections.append(Section(name=name, start=start, end=match.start()))
        heading = " ".join((match["line"] or match["inline"]).lower().split())
        name, start = headings[heading], match.end()
    if text[start:].strip():
        sections.append(Section(name=name, start=start, end=len(text)))
    return tuple(sections)


@lru_cache(maxsize=8)
def _pattern(headings: tuple[str, ...]) -> re.Pattern[str]:
    """A heading stands at the start of a line (colon, dash or line end after it), or inside a line with a colon."""
    names = "|".join(re.escape(heading).replace(r"\ ", r"[ \t]+") for heading in headings)
    return re.compile(
        rf"^[ \t*#=_-]*(?P<line>{names})[ \t*#=_]*(?::[ \t*]*|[-–](?:[ \t]+|$)|$)"
        rf"|(?<=[.;\s])(?P<inline>{names})[ \t]*:[ \t]*",
        re.IGNORECASE | re.MULTILINE,
    )
