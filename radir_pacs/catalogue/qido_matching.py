"""How one QIDO key is compared with what the catalogue holds (PS3.4 C.2.2.2), as SQL."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from radir_pacs.catalogue.names import folded, spelt_alike
from radir_pacs.catalogue.search_terms import all_of, any_of, text_terms, word_terms
from radir_pacs.errors import BadInput
from radir_pacs.similar_cases import Match
from radir_pacs.types import date_value

UNDATED = 2_147_483_647  # study_search.newest_first of a study without a date


@dataclass(frozen=True, kw_only=True)
class Condition:
    """``sql`` decides. ``terms``: a tsquery that whatever ``sql`` lets through satisfies, for the index over terms."""

    sql: str
    params: tuple[Any, ...] = ()
    terms: str | None = None


def together(conditions: Iterable[Condition]) -> Condition:
    """All of them."""
    given = list(conditions)
    return Condition(
        sql=" AND ".join(f"({one.sql})" for one in given) or "TRUE",
        params=tuple(param for one in given for param in one.params),
        terms=all_of(one.terms for one in given),
    )


def compare(expression: str, kind: str, match: Match, *, fuzzy: bool = False) -> Condition:
    """``match`` against an SQL expression. ``kind``: how, and after a blank the kind of its terms in the index, if any.

    Raises BadInput on a value that cannot be compared.
    """
    kind, _, terms = kind.partition(" ")
    values = [unicodedata.normalize("NFC", value) for value in match.values]
    if kind == "members" and not any(map(_has_wildcard, values)):
        return Condition(sql=f"{expression} && %s::text[]", params=(values,))
    if kind == "text" and not terms and not any(map(_has_wildcard, values)):
        return Condition(sql=f"{expression} = ANY(%s::text[])", params=(values,))
    comparison = (_FUZZY_KINDS if fuzzy else {}).get(kind) or _KINDS[kind]
    parts = [comparison(expression, value, terms) for value in values]
    return Condition(
        sql=" OR ".join(f"({part.sql})" for part in parts),
        params=tuple(param for part in parts for param in part.params),
        terms=any_of(part.terms for part in parts),
    )


def _pattern(value: str) -> str:
    """``value`` with DICOM wildcards as a LIKE pattern (PS3.4 C.2.2.2.4)."""
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def _text(expression: str, value: str, terms: str) -> Condition:
    asked = text_terms(terms, value) if terms else None
    if _has_wildcard(value):
        return Condition(sql=f"{expression} LIKE %s", params=(_pattern(value),), terms=asked)
    return Condition(sql=f"{expression} = %s", params=(value,), terms=asked)


def _member(expression: str, value: str, terms: str) -> Condition:
    """One element of an array."""
    one = _text("member", value, terms)
    return Condition(sql=f"EXISTS (SELECT FROM unnest({expression}) member WHERE {one.sql})", params=one.params)


def _identifier(expression: str, value: str, terms: str) -> Condition:
    """One of the identifiers in a text; some systems write two ids of a patient, as DICOM separates values."""
    return _one_of_several(expression, r"E'\\'", "{}", value, text_terms(terms, value))


def _name(expression: str, value: str, terms: str) -> Condition:
    """A folded name, in any of its three component groups (PS3.4 C.2.2.2.1; PS3.5 6.2.1)."""
    asked = folded(value.rstrip("^"))
    return _one_of_several(expression, "'='", "rtrim({}, '^')", asked, text_terms(terms, asked))


def _one_of_several(expression: str, separator: str, part: str, value: str, terms: str | None) -> Condition:
    """A text may hold several values, though most hold one, and its parts need not be taken apart. The first
    comparison, of the text as a whole, says no more than the rest: it is quick, and Postgres can tell how many pass."""
    pattern = _pattern(value)
    sql = (
        f"{expression} LIKE %s AND CASE WHEN {expression} <> '' AND strpos({expression}, {separator}) = 0"
        f" THEN {part.format(expression)} LIKE %s"
        f" ELSE EXISTS (SELECT FROM unnest(string_to_array({expression}, {separator})) part"
        f" WHERE {part.format('part')} LIKE %s) END"
    )
    return Condition(sql=sql, params=(f"%{pattern}%", pattern, pattern), terms=terms)


def _fuzzy_name(expression: str, value: str, terms: str) -> Condition:
    """Every requested word begins a word of the folded name, in any order; Mueller and Muller find Müller."""
    haystack = f"' ' || translate(regexp_replace({expression}, '([aou])e', '\\1', 'g'), '^=-,', '    ')"
    words = [spelt_alike(word) for word in _words(folded(value))]
    return Condition(
        sql=" AND ".join(f"{haystack} LIKE %s" for _ in words) or "TRUE",
        params=tuple(f"% {_pattern(word)}%" for word in words),
        terms=word_terms(terms, words),
    )


def _header_name(expression: str, value: str, _terms: str) -> Condition:
    """A name in a stored header, where none is folded: as asked for, and in the cases in which names are written."""
    groups = f"unnest(string_to_array({expression}, '=')) name_group"
    patterns = [_pattern(case) for case in _cases(value.rstrip("^"))]
    return Condition(
        sql=f"EXISTS (SELECT FROM {groups} WHERE rtrim(name_group, '^') ILIKE ANY(%s))", params=(patterns,)
    )


def _fuzzy_header_name(expression: str, value: str, _terms: str) -> Condition:
    haystack = f"' ' || translate({expression}, '^=-,', '    ')"
    words = [[f"% {_pattern(case)}%" for case in _cases(word)] for word in _words(value)]
    return Condition(sql=" AND ".join(f"{haystack} ILIKE ANY(%s)" for _ in words) or "TRUE", params=tuple(words))


def _words(name: str) -> list[str]:
    return re.split(r"[\s^=,-]+", name.strip(" ^=,-")) if name.strip(" ^=,-") else []


def _cases(name: str) -> list[str]:
    """The locale of the database may fold ASCII alone."""
    return list(dict.fromkeys((name, name.upper(), name.lower(), name.title())))


def _bounds(value: str) -> tuple[str, str]:
    """The two ends of a range, either may be empty; a single value is both (PS3.4 C.2.2.2.5)."""
    low, dash, high = (part.strip() for part in value.partition("-"))
    if dash and not (low or high):
        raise BadInput("a range needs at least one end")
    return low, high if dash else low


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        if len(text) != 8 or not (text.isascii() and text.isdigit()):
            raise ValueError
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise BadInput("a date to match is not of the form YYYYMMDD, or two of them with a hyphen") from None


def _ends(expression: str, low: Any, high: Any) -> Condition:
    parts = [(f"{expression} >= %s", low), (f"{expression} <= %s", high)]
    given = [(sql, end) for sql, end in parts if end not in (None, "")]
    return Condition(sql=" AND ".join(sql for sql, _ in given), params=tuple(end for _, end in given))


def date_range(value: str) -> tuple[date | None, date | None]:
    """The days of a DA range or single value; None is an open end. Raises BadInput."""
    low, high = _bounds(value)
    return _day(low), _day(high)


def _date(expression: str, value: str, _terms: str) -> Condition:
    low, high = date_range(value)
    return _ends(expression, low, high)


def newest_first(day: date | None) -> int:
    """study_search.newest_first: it ascends from the newest day to the oldest, and ends with those without one."""
    return UNDATED if day is None else (date.max - day).days


def newest_day(values: Iterable[str]) -> int:
    """``newest_first`` of the newest day of some ranges, 0 where one is open. Raises BadInput."""
    ends = [date_range(value)[1] for value in values]
    return min(0 if end is None else newest_first(end) for end in ends)


def _day_in_order(expression: str, value: str, _terms: str) -> Condition:
    low, high = date_range(value)
    return _ends(
        expression, 0 if high is None else newest_first(high), UNDATED - 1 if low is None else newest_first(low)
    )


def _date_text(expression: str, value: str, _terms: str) -> Condition:
    low, high = date_range(value)
    return _ends(expression, low and date_value(low), high and date_value(high))


def _time(expression: str, value: str, _terms: str) -> Condition:
    """TM and DT compare as text; a shortened upper end covers all it abbreviates. Colons are of ACR-NEMA's times."""
    low, high = _bounds(value.replace(":", ""))
    if any(not end.replace(".", "", 1).isdigit() or not end.isascii() for end in (low, high) if end):
        raise BadInput("a time to match is not of the form HHMMSS, or two of them with a hyphen")
    return _ends(f'{expression} COLLATE "C"', low, high and high + "~")


def _number(expression: str, value: str, _terms: str) -> Condition:
    try:
        number = float(value)
    except ValueError:
        raise BadInput("a number to match is not a number") from None
    if not abs(number) < 1e15:  # refuses NaN and infinity as well
        raise BadInput("a number to match is out of bounds")
    # Headers may hold text where a number belongs; only what reads as one is compared.
    reads = f"{expression}::text ~ '^-?[0-9]{{1,15}}(\\.[0-9]{{0,15}})?([eE][-+]?[0-9]{{1,2}})?$'"
    return Condition(sql=f"CASE WHEN {reads} THEN {expression}::text::float8 = %s ELSE FALSE END", params=(number,))


_Comparison = Callable[[str, str, str], Condition]  # of an SQL expression, a value and the kind of its terms
_KINDS: Mapping[str, _Comparison] = {
    "text": _text,
    "members": _member,
    "identifier": _identifier,
    "name": _name,
    "header-name": _header_name,
    "day": _day_in_order,
    "date": _date,
    "dates": _date_text,
    "time": _time,
    "number": _number,
}
_FUZZY_KINDS: Mapping[str, _Comparison] = {"name": _fuzzy_name, "header-name": _fuzzy_header_name}
