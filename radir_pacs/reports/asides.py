"""What stands in a sentence beside its statements: image numbers and dates. They are kept, and blanked before reading.

The blanks leave every offset as it is. Without them "4:118" would end a clause and "2/54" would be an alternative.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from radir_pacs.reports.lexicon import Lexicon

_DATE_SIGN = re.compile(r"\d{4}|\d[./-]\d{1,2}[./-]\d")  # every date has one of these
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d+")
_BETWEEN = ".: \t\n"  # a word and its number
_REACH = 40  # characters before a number that may hold the word


@dataclass(frozen=True, slots=True)
class Aside:
    """``what``: "series/image", an image alone, or a date as it is written; ``start``: where it stands."""

    start: int
    what: str


class _Patterns(NamedTuple):
    image_sign: re.Pattern[str]  # whether there may be an image at all, which is quicker to see: two numbers,
    image_words: tuple[str, ...]  # or a word before a number
    image: re.Pattern[str]
    date: re.Pattern[str]


def without_asides(text: str, lexicon: Lexicon) -> tuple[str, list[Aside], list[Aside]]:
    """The text with blanks for its asides, its images, and its dates."""
    if _DIGIT.search(text) is None:
        return text, [], []
    known = _patterns(lexicon)
    numbered, dated = _may_have_image(text, known), _DATE_SIGN.search(text)
    if not numbered and dated is None:
        return text, [], []
    images: list[Aside] = []
    dates: list[Aside] = []

    def image(match: re.Match[str]) -> str:
        groups = {name: value for name, value in match.groupdict().items() if value}
        series = next((value for name, value in groups.items() if name[0] == "s"), None)
        number = next(value for name, value in groups.items() if name[0] == "i")
        images.append(Aside(match.start(), f"{series}/{number}" if series else number))
        return " " * len(match[0])

    def date(match: re.Match[str]) -> str:
        dates.append(Aside(match.start("date"), match["date"]))
        return " " * len(match[0])

    if numbered:
        text = known.image.sub(image, text)
    return known.date.sub(date, text) if dated is not None else text, images, dates


def _may_have_image(text: str, known: _Patterns) -> bool:
    for number in _NUMBER.finditer(text):
        before = text[max(0, number.start() - _REACH) : number.start()]
        if before.rstrip(_BETWEEN).lower().endswith(known.image_words):
            return True
    return known.image_sign.search(text) is not None


@lru_cache(maxsize=8)
def _patterns(lexicon: Lexicon) -> _Patterns:
    words = lexicon.data["cues"].get("aside", {})
    series, image = either(words.get("series", ())), either(words.get("image", ()))
    month, of = either(words.get("months", ())), either(words.get("dated", ()))
    upto = r"(?:\s*[-–]\s*\d{1,4})?"
    lead = rf"(?:\b(?:{either(words.get('shown_on', ()))})\s+)?"
    number = (
        rf"(?P<s1>\d{{1,4}})\s*[,/;:]?\s*(?:{either(words.get('and', ()))}\s+)?(?:{image})\.?\s*:?\s*(?P<i1>\d{{1,4}})"
    )
    images = (
        rf"{lead}\b(?:{series})\.?\s*:?\s*{number}{upto}",
        rf"{lead}\b(?:{image})\.?\s*:?\s*(?P<i2>\d{{1,4}}){upto}\s*,?\s*(?:{of})\s+(?:{series})\.?\s*(?P<s2>\d{{1,4}})",
        rf"{lead}\b(?:{image})\.?\s*:?\s*(?P<s3>\d{{1,4}})\s*[-:/]\s*(?P<i3>\d{{1,4}})\b(?!\s*[-–])",
        rf"{lead}\b(?:{image})\.?\s*:?\s*(?P<i4>\d{{1,4}}){upto}\b",
        r"\(\s*(?P<s5>\d{1,4})\s*[:/]\s*(?P<i5>\d{1,4})\s*\)",
    )
    dates = (
        r"\d{4}-\d{2}-\d{2}",
        r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}",
        rf"(?:{month})\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}",
        rf"\d{{1,2}}\.?\s+(?:{month})\.?,?\s+\d{{4}}",
        rf"(?:{month})\.?,?\s+\d{{4}}",
        r"(?:19|20)\d{2}(?![\d.,]*\d|\s*(?:mm|cm|h\b|hours|ml))",
    )
    return _Patterns(
        image_sign=re.compile(r"\d\s*[:/]\s*\d"),
        image_words=tuple(word.lower() for name in ("series", "image") for word in words.get(name, ())),
        image=re.compile("|".join(images), re.IGNORECASE),
        date=re.compile(rf"(?:\b(?:{of})\s+)?(?<![\w/.-])(?P<date>{'|'.join(dates)})(?![\w/])", re.IGNORECASE),
    )


def without_sided_comparisons(text: str, lexicon: Lexicon) -> str:
    """The text with "both sides" in place of which side has more: "bilateral effusions, larger on the right".

    That is a size of a side, not a change. As long as before, so that offsets hold.
    """
    for sign in lexicon.compared:
        if sign in text:
            return _without_sided_comparisons(text, lexicon) if any(side in text for side in lexicon.sides) else text
    return text


def _without_sided_comparisons(text: str, lexicon: Lexicon) -> str:
    words = lexicon.data["cues"]["sided"]
    for match in reversed(list(_sided(lexicon).finditer(text))):
        sides = [name for name in ("left", "right") if match.groupdict().get(f"than_{name}")]
        head = text[: match.start()]
        for side in sides:  # "the right effusion is larger than the left": both are there
            other = words["right"] if side == "left" else words["left"]
            named = list(re.finditer(rf"\b(?:{either(other)})\b", head, re.IGNORECASE))
            if named:
                start, end = named[-1].span()
                head = head[:start] + words["both"][: end - start].ljust(end - start) + head[end:]
        fitting = next(word for word in words["bilaterally"] if len(word) < len(match[0]))
        text = head + f" {fitting}".ljust(len(match[0])) + text[match.end() :]
    return text


@lru_cache(maxsize=8)
def _sided(lexicon: Lexicon) -> re.Pattern[str]:
    return re.compile("|".join(lexicon.data["cues"]["sided"]["patterns"]), re.IGNORECASE)


def either(phrases: Iterable[str]) -> str:
    ordered = sorted(phrases, key=len, reverse=True)
    return "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in ordered) or r"(?!)"
