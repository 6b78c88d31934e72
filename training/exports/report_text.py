"""Report text without what names its patient or staff, as far as rules can tell.

First goes what the study's own headers name: parts of every person's name, ids and numbers, institutions, dates. Then
whatever has the form of a date, a time, an id, an address of e-mail or web, a long number, or a name after a title;
and lines of signature. A name that no header has and no title precedes stays: the export's README says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_LEAST_NAME, _LEAST_ID = 2, 3
_IDS = frozenset({"LO", "SH", "AE", "UI"})
_IDENTIFYING = re.compile(  # keywords of what names somebody, something or somewhere in text
    "ID$|IDs$|Number$|Name$|Institution|Station|Address|Telephone|Admitting|Department|OtherPatient|Operator|Physician"
)
_MONTHS = (
    r"(?:jan(?:uary|uar)?|feb(?:ruary|ruar)?|m[aä]r(?:ch|z)?|apr(?:il)?|may|mai|june?|juni|july?|juli|aug(?:ust)?|"
    r"sep(?:t|tember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)\.?"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), mark)
    for pattern, mark in (
        (
            r"^.*\b(?:electronically signed|signed by|dictated by|transcribed|approved by|attending:|resident:|"
            r"elektronisch (?:signiert|freigegeben)|gez\.|befunder|validiert).*$",
            "",
        ),
        (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "[address]"),
        (r"\bhttps?://\S+|\bwww\.\S+", "[address]"),
        (r"\b\d+(?:\.\d+){4,}\b", "[id]"),
        (r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b", "[date]"),
        (r"\b\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})\b", "[date]"),
        (rf"\b\d{{1,2}}(?:st|nd|rd|th|\.)?\s+{_MONTHS}(?:,?\s+\d{{4}})?\b", "[date]"),
        (rf"\b{_MONTHS}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?\b", "[date]"),
        (r"\b\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\.?|\s*uhr)?\b", "[time]"),
        (r"(?:\+|\b)\d[\d ()/-]{5,}\d\b", "[number]"),
        (r"\b[A-Z]{0,4}\d{5,}\b", "[number]"),
    )
)
_TITLED = re.compile(  # here case tells a name
    r"\b(?:Dr|Drs|Prof|PD|Mr|Mrs|Ms|Miss|Herr|Herrn|Frau|Fr|Hr)\.?(?:\s+(?:Dr|med|Prof)\.?)*"
    r"(?:\s+(?:von|van|de|der|zu|[A-ZÄÖÜ]\.|[A-ZÄÖÜ][\w'’-]+))+"
)


def without_names(text: str, headers: Iterable[Mapping[str, Any]]) -> str:
    """``headers``: DICOM JSON of the study's instances (PS3.18 F)."""
    names, ids = set[str](), set[str]()
    for header in headers:
        for vr, keyword, value in _texts(header):
            if vr == "PN":
                names |= {part for part in re.split(r"[\s^=,.]+", value) if len(part) >= _LEAST_NAME}
            elif vr in _IDS and (vr == "UI" or _IDENTIFYING.search(keyword)) and len(value.strip()) >= _LEAST_ID:
                ids.add(value.strip())
            elif vr == "DA" and len(value) == 8:
                ids |= _dates(value)
    for one in sorted(ids, key=len, reverse=True):
        text = re.sub(_word(one), "[id]", text, flags=re.IGNORECASE)
    for pattern, mark in _RULES:
        text = pattern.sub(mark, text)
    text = _TITLED.sub("[name]", text)
    for name in sorted(names, key=len, reverse=True):
        flags = re.IGNORECASE if len(name) > _LEAST_NAME else re.NOFLAG
        text = re.sub(_word(name), "[name]", text, flags=flags)
    return text


def _word(text: str) -> str:
    return rf"(?<!\w){re.escape(text)}(?!\w)"


def _dates(written: str) -> set[str]:
    year, month, day = written[:4], written[4:6], written[6:]
    return {written, f"{day}.{month}.{year}", f"{month}/{day}/{year}", f"{year}-{month}-{day}"}


def _texts(header: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(VR, keyword, value) of every text, also in sequences."""
    from pydicom.datadict import keyword_for_tag

    for tag, element in header.items():
        values, vr = element.get("Value") or (), str(element.get("vr"))
        for value in values:
            if vr == "SQ" and isinstance(value, Mapping):
                yield from _texts(value)
            elif vr == "PN" and isinstance(value, Mapping):
                yield from ((vr, "", str(part)) for part in value.values())
            elif isinstance(value, str):
                yield vr, keyword_for_tag(int(tag, 16)), value
