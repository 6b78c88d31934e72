"""QIDO matching keys as filters of the similar-case query; they act inside the search (P7)."""

from __future__ import annotations

import re
from dataclasses import replace

from pydicom.datadict import keyword_for_tag

from radir_pacs.callers import Role
from radir_pacs.catalogue.qido import date_range
from radir_pacs.errors import BadInput
from radir_pacs.similar_cases import Filters, Match
from radir_pacs.web import audit

from . import parameters, pseudonyms

# Our own parameters besides anatomy, limit and offset: also the patient's other studies; only studies with a report;
# only those of the same type of scanner; only those whose report affirms a finding.
SAME_PATIENT, WITH_REPORT, SAME_SCANNER, FINDING = "samepatient", "withreport", "samescanner", "finding"
WORDS, WORDS_OF = "words", "wordsof"  # any words, and what they name
OWN = frozenset(
    {"anatomy", "similarto", "limit", "offset", "page", "includefield", "fuzzymatching", "accept", "lang", "context"}
) | {
    SAME_PATIENT,
    WITH_REPORT,
    SAME_SCANNER,
    FINDING,
    WORDS,
    WORDS_OF,
}

_AGE = re.compile(r"([0-9]{1,3})([YMWD]?)\Z")
_UNITS_A_YEAR = {"Y": 1.0, "": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}


def requested(own: frozenset[str] = OWN) -> tuple[Filters, list[str]]:
    """The filters of the current request, and the names of parameters that are none. Raises BadInput.

    Every key of a QIDO-RS search for studies filters; to a browser that a sidebar's token let in, only those that do
    not tell who another patient is.
    """
    filters = Filters(
        exclude_same_patient=not parameters.flag(SAME_PATIENT),
        with_report=parameters.flag(WITH_REPORT),
        same_scanner=parameters.flag(SAME_SCANNER),
        finding=parameters.one(FINDING),
        fuzzy=parameters.flag("fuzzymatching"),
    )
    unused = list(parameters.unknown(own))
    for match in parameters.matches(own):
        narrowed = _narrowed(filters, match)
        if narrowed is not None:
            filters = narrowed
        elif audit.caller().role is Role.SIDEBAR:
            unused.append(keyword_for_tag(int(match.path[-1], 16)))
        else:
            if not audit.caller().knows_persons:
                pseudonyms.require_no_person([match])
            filters = replace(filters, keys=(*filters.keys, match))
    return filters, unused


def _narrowed(filters: Filters, match: Match) -> Filters | None:
    """With what a column in memory can say of ``match``; None: the database is asked, as for any search."""
    value = match.values[0]
    plain = not any(mark in text for text in match.values for mark in "*?")
    match match.path:
        case ("00080060" | "00080061",) if plain and not filters.modalities:
            return replace(filters, modalities=frozenset(name.upper() for name in match.values))
        case ("00080020",):
            low, high = date_range(value)
            return replace(filters, study_date_from=low, study_date_to=high)
        case ("00100040",) if plain:
            return replace(filters, sexes=frozenset(sex.upper() for sex in match.values))
        case ("00101010",):
            youngest, oldest = _ages(value)
            return replace(filters, age_from=youngest, age_to=oldest)
        case ("00180015",) if plain and len(match.values) == 1:
            return replace(filters, body_part=value.upper())
    return None


def _ages(value: str) -> tuple[float | None, float | None]:
    """Years, from an AS value or a range of two: ``040Y-060Y``, ``40-60``, ``-018Y``."""
    low, dash, high = value.upper().partition("-")
    years = []
    for end in (low, high if dash else low):
        found = _AGE.match(end)
        if end and found is None:
            raise BadInput("an age to match is of the form 040Y, or two of them with a hyphen")
        years.append(int(found[1]) / _UNITS_A_YEAR[found[2]] if found else None)
    youngest, oldest = years
    if not dash and oldest is not None:
        oldest += 0.999  # 40 years old until the next birthday
    return youngest, oldest
