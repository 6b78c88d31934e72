"""The measurements in a sentence: sizes of now, sizes of an earlier study, and distances, which are nobody's size."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from radir_pacs.reports.asides import either
from radir_pacs.reports.findings import Change
from radir_pacs.reports.lexicon import Lexicon

_SIZE = re.compile(
    r"(\d{1,3}(?:[.,]\d{1,2})?)(?:\s*(?:x|×|by|mal|-|to|bis|auf)\s*(\d{1,3}(?:[.,]\d{1,2})?)){0,2}\s*-?\s*(mm|cm|millimet\w*|centimet\w*)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d{1,3}(?:[.,]\d{1,2})?")
_REACH = 40  # characters before a size that may say that it is an earlier one


class _Words(NamedTuple):
    earlier: re.Pattern[str]
    once: re.Pattern[str]
    now: re.Pattern[str]
    grown_from: re.Pattern[str]
    distance: re.Pattern[str]


class Size(NamedTuple):
    """A measurement at ``start`` to ``end``, in mm: of now, of an earlier study, or (neither) a distance."""

    start: int
    end: int
    size_mm: float | None
    prior_mm: float | None


def read_sizes(text: str, lexicon: Lexicon) -> list[Size]:
    words, found = _words(lexicon), []
    for match in _SIZE.finditer(text):
        factor = 10.0 if match[3].lower().startswith("c") else 1.0
        numbers = [factor * float(number.replace(",", ".")) for number in _NUMBER.findall(match.group())]
        before = text[max(0, match.start() - _REACH) : match.start()]
        size: float | None = max(numbers)
        prior: float | None = None
        if words.distance.match(text, match.end()):
            size = None  # "4 cm above the carina", "5 mm slices"
        elif len(numbers) == 2 and words.grown_from.search(before):
            prior, size = numbers
        elif words.earlier.search(before) or (words.once.search(before) and words.now.search(text, match.end())):
            prior, size = size, None
        found.append(Size(match.start(), match.end(), size, prior))
    return found


def change_of_size(size: float, prior: float) -> Change:
    return Change.STABLE if size == prior else Change.WORSE if size > prior else Change.BETTER


@lru_cache(maxsize=8)
def _words(lexicon: Lexicon) -> _Words:
    table = lexicon.data["cues"].get("size", {})
    between = r"(?:\s+\w+)?[\s(:,]*$"
    return _Words(
        earlier=re.compile(rf"\b(?:{either(table.get('earlier', ()))}){between}", re.IGNORECASE),
        once=re.compile(rf"\b(?:{either(table.get('once', ()))}){between}", re.IGNORECASE),
        now=re.compile(rf"\b(?:{either(table.get('now', ()))})\b", re.IGNORECASE),
        grown_from=re.compile(rf"\b(?:{either(table.get('grown_from', ()))})\s*$", re.IGNORECASE),
        distance=re.compile(rf"\s*(?:{either(table.get('distance', ()))})\b", re.IGNORECASE),
    )
