"""Report text without what names its patient or staff, as far as rules can tell.

First goes what the study's headers and the catalogue name: parts of every person's name however it is spelt (ü or ue,
in any case, in the genitive, one half of a double name), ids and numbers, institutions, dates. Then whatever has the
form of a date, a month of a year, an age from 90, a time, an id, an address of e-mail or web, a long number, or a name
after a title; and lines of signature. Any other name stays: the export's README says so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from radir_pacs.catalogue.names import folded, spelt_alike

_LEAST_NAME, _LEAST_ID = 2, 3
_IDS = frozenset({"LO", "SH", "AE", "UI"})
_IDENTIFYING = re.compile(  # keywords of what names somebody, something or somewhere in text
    "ID$|IDs$|Number$|Name$|Institution|Station|Address|Telephone|Admitting|Department|OtherPatient|Operator|Physician"
)
_MONTHS = (
    r"(?:jan(?:uary|uar)?|feb(?:ruary|ruar)?|m(?:ae?|ä)r(?:ch|z)?|apr(?:il)?|may|mai|june?|juni|july?|juli|aug(?:ust)?|"
    r"sep(?:t|tember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)\.?"
)
_YEAR = r"(?:19|20)\d\d"
_OLD = r"(?:9\d|1[0-3]\d)"  # ages that HIPAA's safe harbour (45 CFR 164.514(b)(2)(i)(C)) does not let stand
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
        (rf"\b\d{{1,2}}(?:st|nd|rd|th|\.)?\s*{_MONTHS}(?:,?\s+\d{{4}})?\b", "[date]"),
        (rf"\b{_MONTHS}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?\b", "[date]"),
        (rf"\b{_MONTHS},?\s*{_YEAR}\b", "[date]"),
        (rf"\b(?:0?[1-9]|1[0-2])/{_YEAR}\b|\b(?:0[1-9]|1[0-2])\.{_YEAR}\b", "[date]"),
        (
            rf"\b{_OLD}[\s-]*(?:years?|yrs?|y/?o|y\.o\.|y|jahren?|j(?:ä|ae)hrige?[mnrs]?|j\.)"
            r"(?:[\s-]+(?:old|of\s+age|alt))?(?!\w)",
            "[age]",
        ),
        (rf"\b(?:aged?|alter)(?:\s+of|:)?\s+{_OLD}\b", "[age]"),
        (r"\b\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\.?|\s*uhr)?\b", "[time]"),
        (r"(?:\+|\b)\d[\d ()/-]{5,}\d\b", "[number]"),
        (r"\b[A-Z]{0,4}\d{5,}\b", "[number]"),
    )
)
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")
_PARTICLES = frozenset({"von", "van", "de", "der", "den", "zu", "zur"})
_TITLES = frozenset({"dr", "drs", "prof", "pd", "mr", "mrs", "ms", "miss", "herr", "herrn", "frau", "fr", "hr"})
_UNSURE = frozenset({"pd", "mr", "ms", "miss", "fr", "hr"})  # MR thorax, 200 ms, HR 80: written so, they need a dot
_TITLED = re.compile(
    rf"\b(?P<title>{'|'.join(sorted(_TITLES, key=len, reverse=True))})(?:(?P<dot>\.)\s*|\s+)"
    r"(?:(?:dr|med|prof|habil|univ)\b\.?\s*)*(?P<words>[^\W\d_][\w'’-]*\.?(?:\s+[^\W\d_][\w'’-]*\.?)*)",
    re.IGNORECASE,
)
_MOST_CAPITALS = 2  # words of a name in a report that is all capitals, where nothing else tells where the name ends


def without_names(
    text: str,
    headers: Iterable[Mapping[str, Any]],
    *,
    names: Iterable[str] = (),
    ids: Iterable[str] = (),
    dates: Iterable[str] = (),
) -> str:
    """``headers``: DICOM JSON of the study's instances (PS3.18 F). The others are what the catalogue knows besides.

    names: in DICOM form (PS3.5 6.2.1). dates: as DA.
    """
    known, numbers = list(names), {one.strip() for one in ids}
    written = {form for one in dates for form in _dates(one)}
    for header in headers:
        for vr, keyword, value in _texts(header):
            if vr == "PN":
                known.append(value)
            elif vr in _IDS and (vr == "UI" or _IDENTIFYING.search(keyword)):
                numbers.add(value.strip())
            elif vr == "DA" and len(value) == 8:
                written |= _dates(value)
    text = unicodedata.normalize("NFC", text)
    replaced = {unicodedata.normalize("NFC", one) for one in numbers if len(one) >= _LEAST_ID} | written
    for one in sorted(replaced, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(one)}(?!\w)", "[id]", text, flags=re.IGNORECASE)
    for pattern, mark in _RULES:
        text = pattern.sub(mark, text)
    return _without_known(_without_titled(text), known)


def _without_known(text: str, names: Iterable[str]) -> str:
    cased, caseless = set[str](), set[str]()
    for name in names:
        for group in unicodedata.normalize("NFC", name).split("="):
            for part in _parts(group):
                (caseless if part.lower() == part.upper() and part.isalpha() else cased).add(part)
    for part in sorted(caseless, key=len, reverse=True):  # scripts that put no space around a name
        text = text.replace(part, "[name]")
    short = {_alike(part) for part in cased if len(part) <= _LEAST_NAME}
    long = {_alike(part) for part in cased if len(part) > _LEAST_NAME}

    def replaced(found: re.Match[str]) -> str:
        word = _alike(found[0])
        is_short = word in short and not found[0].islower()
        return "[name]" if is_short or not long.isdisjoint(_without_genitive(word)) else found[0]

    return _WORD.sub(replaced, text)


def _parts(group: str) -> set[str]:
    """The words of a component group, those that a hyphen or apostrophe joins also as one; the whole where it has no
    case, as 홍길동."""
    parts = set(_WORD.findall(group))
    parts |= {"".join(_WORD.findall(joined)) for joined in re.split(r"[\s^,.]+", group)}
    whole = "".join(_WORD.findall(group))
    if whole.lower() == whole.upper():
        parts.add(whole)
    return {part for part in parts if len(part) >= _LEAST_NAME}


def _alike(word: str) -> str:
    return spelt_alike(folded(word))


def _without_genitive(word: str) -> tuple[str, ...]:
    return (word, word.removesuffix("s"), word.removesuffix("es"))


def _without_titled(text: str) -> str:
    done, position = list[str](), 0
    while found := _TITLED.search(text, position):
        end = _end_of_name(found) or found.end("title")
        done.append(text[position : found.start()])
        done.append(found["title"] if end == found.end("title") else "[name]")
        position = end
    return "".join(done) + text[position:]


def _end_of_name(found: re.Match[str]) -> int | None:
    """Where the name after a title ends; None where no name follows."""
    title, end, named = found["title"], None, 0
    if title.lower() in _UNSURE and not found["dot"] and not title.istitle():
        return None
    for one in re.finditer(r"\S+", found["words"]):
        word = one[0].removesuffix(".")
        if word.lower() in _TITLES:
            break
        if word.lower() not in _PARTICLES and len(word) > 1:
            is_capital = not word[0].islower()
            if not named and not (is_capital or title.islower() or found["dot"]):
                break
            if named and (not is_capital or (word.isupper() and named >= _MOST_CAPITALS)):
                break
            named += 1
        end = found.start("words") + one.start() + len(word)
        if named and one[0].endswith(".") and len(word) > 1:
            break  # the end of a sentence
    return end if named else None


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
