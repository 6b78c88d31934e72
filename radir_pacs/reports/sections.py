"""The sections of a report, by their headings in many styles; a text without headings is one section."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from radir_pacs.reports.tokens import edits

_LABEL_WORDS = 6
_LONGEST_LABEL = 60  # characters
_CACHE_LIMIT = 20_000
_LINE = re.compile(r"[^\n]+")
_LEAD = re.compile(r"[ \t*#=_>•-]*(?:\d{1,2}[.)][ \t]*)?")
_COLON = re.compile(r"[ \t*_]*(?:(?<!\d):|:(?!\d))[ \t*=_-]*")  # not that of a time of day
_LABEL_START = re.compile(r"(?:[.;!?]|\s{2,}|[\"“”)\]|])\s*(?=\S[^.;!?|]*$)")
_DASH = re.compile(
    r"(?P<label>[A-Za-z][A-Za-z /&]{1,40}?)[ \t]+[-–][ \t]*(?=\S|$)|"
    r"(?P<glued>[A-Za-z][A-Za-z /&]{1,40}?)[-–](?:[ \t]+|$)"
)
_CAPITALS = re.compile(r"[A-Z][A-Z/&]+(?: [A-Z/&]+){0,4}(?= +[A-Z]?[a-z])")  # "FINDINGS The lungs are clear"
_QUALIFIERS = frozenset(  # of a place: "right lung:"
    {"right", "left", "upper", "lower", "middle", "both", "bilateral", "r", "l", "no", "of", "the"}
)
_WORD = re.compile(r"[a-z0-9]+|[/&]")
_EMPTY_LINE = re.compile(r"\n[ \t]*\n")
_REPORT, _ADDENDUM = "report", "addendum"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """``name`` is one of the lexicon's section names, or "report" for text before or without any heading.

    ``superseded``: an earlier wording that the same text amends.
    """

    name: str
    start: int
    end: int
    superseded: bool = False


class Headings:
    """What the headings of one language mean: known ones, misspelt ones, and new ones made of the usual words.

    names: heading (lower case) -> section. words: a heading's word -> section; of several sections, the earlier one in
    ``ranks`` decides. fillers: other words that a heading may have. findings: words of findings, which make a label
    ("Pneumothorax: none"), not a heading. patient_words: "diagnosis", which together with an unknown word is the
    patient's and heads the section ``patient``. labels: places, which head the section of findings and belong to it.
    """

    def __init__(
        self,
        *,
        names: Mapping[str, str],
        words: Mapping[str, str],
        ranks: Collection[str],
        fillers: Collection[str],
        labels: Collection[str],
        findings: Collection[str],
        mined: Collection[str],
        patient: str,
        patient_words: Collection[str],
        shown: Collection[str] = (),
        titled: Collection[str] = (),
        statements: Collection[str] = (),
    ) -> None:
        self._patient, self._patient_words = patient, frozenset(patient_words)
        self.names = dict(names)
        self.labels = frozenset(labels)
        self.mined = frozenset(mined)
        self._words, self._ranks = dict(words), {name: rank for rank, name in enumerate(ranks)}
        self._fillers, self._findings = frozenset(fillers), frozenset(findings)
        self._longest = max((len(name.split()) for name in self.names), default=0)
        self._places = frozenset(titled)
        self._shown = frozenset(shown)
        self._statements = frozenset(statements)
        self._cache: dict[tuple[str, bool], str | None] = {}

    def name(self, label: str, *, loosely: bool) -> str | None:
        """The section that ``label`` heads; None where it is not a heading. loosely: by likeness as well as by name."""
        key = (label, loosely)
        if key not in self._cache:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = self._name(" ".join(heading_words(label)), loosely)
        return self._cache[key]

    def is_label(self, label: str) -> bool:
        """Whether the heading names a place that the following text is about."""
        return " ".join(heading_words(label)) in self.labels

    def is_statement(self, label: str) -> bool:
        """Whether it looks like a heading and is the beginning of a sentence: "Differential diagnosis: …"."""
        return " ".join(heading_words(label)) in self._statements

    def suffix(self, words: list[str]) -> tuple[str, int] | None:
        """The longest known heading at the end of ``words``, and its number of words."""
        for count in range(min(self._longest, len(words)), 0, -1):
            if (found := self.name(" ".join(words[-count:]), loosely=False)) is not None:
                return found, count
        return None

    def _name(self, label: str, loosely: bool) -> str | None:
        if label in self._statements:
            return None
        if label in self.names:
            return self.names[label]
        words = [word for word in label.split() if not word.isdigit() and word not in "/&"]
        if self._is_title(words):
            return "findings"
        if not loosely or not words or len(words) > _LABEL_WORDS or not self._findings.isdisjoint(words):
            return None
        return self._misspelt(label) or self._composed(words)

    def _is_title(self, words: list[str]) -> bool:
        """Whether a heading names one of several studies, whose findings follow: "LEFT RIBS, 3 VIEWS"."""
        places = sum(word in self._places for word in words)
        shown = sum(word in self._shown for word in words)
        return 0 < places < len(words) == places + shown

    def _misspelt(self, label: str) -> str | None:
        """A known heading within one edit (two in a long heading); never where it could be another word."""
        most = 0 if len(label) < 6 else 1 if len(label) < 9 else 2
        near = {
            section
            for name, section in self.names.items()
            if name not in self.labels and abs(len(name) - len(label)) <= most and edits(label, name, most) <= most
        }
        return near.pop() if len(near) == 1 else None

    def _composed(self, words: list[str]) -> str | None:
        """The section of a heading made of usual words (all but one at most): "ADMITTING DIAGNOSIS", "CLINICAL HX"."""
        found: list[str] = []
        strange = 0
        for word in words:
            section = self._words.get(word) or self._word_like(word)
            if section is not None:
                found.append(section)
            elif word not in self._fillers:
                strange += 1
        if not found or strange > (len(words) > 1):
            return None
        section = min(found, key=lambda name: self._ranks[name])
        if strange and self._patient_words.intersection(words):
            return self._patient  # "TRANSFER DIAGNOSIS" is the patient's, not the radiologist's
        return section if not strange or section not in self.mined or section == _ADDENDUM else None

    def _word_like(self, word: str) -> str | None:
        if len(word) < 6 or word in self._fillers:
            return None
        near = {section for known, section in self._words.items() if len(known) > 5 and edits(word, known, 1) <= 1}
        return near.pop() if len(near) == 1 else None


def heading_words(label: str) -> list[str]:
    return _WORD.findall(label.lower())


def split_sections(text: str, headings: Headings) -> tuple[Section, ...]:
    """Cut ``text`` at its headings.

    Everything in an addendum gets its name: at the end of a report that is all that follows; at the start, the text up
    to the next heading, or everything if there is no such text.
    """
    sections: list[Section] = []
    name, start, superseded, adding = _REPORT, 0, False, False
    for heading, begin, end in (*_found(text, headings), ("", len(text), len(text))):
        if text[start:begin].strip():
            sections.append(Section(name=name, start=start, end=begin, superseded=superseded))
        elif name == _ADDENDUM:
            adding = True  # it heads everything that follows
        reported = any(earlier.name in headings.mined - {_ADDENDUM} for earlier in sections)
        name, start = heading, end
        match heading:
            case "amended":  # the text above is an earlier wording
                if text[end:].strip():
                    sections = [replace(earlier, superseded=True) for earlier in sections]
                name, superseded, adding = _REPORT, False, False
            case "original":  # the text that follows is
                name, superseded, adding = _REPORT, reported, False
            case "addendum":
                superseded, adding = False, reported
            case _ if adding and heading in headings.mined:
                name = _ADDENDUM
    if not any(section.name in headings.mined - {_ADDENDUM} for section in sections):
        bodies = [at for at, section in enumerate(sections) if section.name != _ADDENDUM]
        if bodies:
            sections[bodies[-1] : bodies[-1] + 1] = _body_without_heading(text, sections[bodies[-1]])
    return tuple(sections)


def _found(text: str, headings: Headings) -> Iterator[tuple[str, int, int]]:
    """(section, begin, end) of each heading; a place's heading is empty, since it belongs to what it heads."""
    for line in _LINE.finditer(text):
        begin, end = line.span()
        lead = _LEAD.match(text, begin, end)
        first = lead.end() if lead else begin
        if ":" in line[0]:
            yield from _with_colons(text, first, end, headings)
            continue
        capitals = _CAPITALS.match(text, first, end)
        if capitals is not None and headings.name(capitals[0], loosely=False) and not headings.is_label(capitals[0]):
            yield str(headings.name(capitals[0], loosely=False)), begin, capitals.end()
            continue
        if end - first > 60:
            dash = _DASH.match(text, first, min(end, first + 60)) if "-" in line[0] or "–" in line[0] else None
        else:
            bare = text[first:end].strip(" \t*#=_-–.")
            section = headings.name(bare, loosely=bare.isupper())
            if section is not None and not headings.is_label(bare):
                yield section, begin, end
                continue
            dash = _DASH.match(text, first, end)
        if dash is not None:
            label = dash["label"] or dash["glued"]
            section = headings.name(label, loosely=False)
            if section is not None:
                yield section, begin, first if headings.is_label(label) else dash.end()


def _with_colons(text: str, first: int, end: int, headings: Headings) -> Iterator[tuple[str, int, int]]:
    """Headings in a line, each before a colon: as a whole from the start of a statement, or the known end of it."""
    position = first
    for colon in _COLON.finditer(text, first, end):
        if colon.start() < position:
            continue
        start = max(position, colon.start() - _LONGEST_LABEL)
        before = text[start : colon.start()]
        offset = start
        for stop in _LABEL_START.finditer(before):
            start = offset + stop.end()
        label = text[start : colon.start()].strip(" *_#=\t")
        section = (
            headings.name(label, loosely=True) if start > colon.start() - _LONGEST_LABEL or start == position else None
        )
        if section is None:
            words = label.split()
            known = len(words) > 1 and not label.endswith(")") and not headings.is_statement(label)
            suffix = headings.suffix(words) if known else None
            if suffix is not None and words[-suffix[1] - 1].lower() not in _QUALIFIERS:
                section, count = suffix
                start = colon.start() - len(" ".join(words[-count:]))
                start = text.rfind(words[-count], position, colon.start()) if count else start
                label = " ".join(words[-count:])
        position = colon.end()
        if section is not None:
            yield section, start, start if headings.is_label(label) else colon.end()


def _body_without_heading(text: str, last: Section) -> Iterator[Section]:
    """If only a history or technique has a heading, the text after an empty line is the report itself."""
    begin = last.start + len(text[last.start : last.end]) - len(text[last.start : last.end].lstrip())
    empty = _EMPTY_LINE.search(text, begin, last.end)
    if empty is None:
        yield last
        return
    yield replace(last, end=empty.start())
    yield Section(name=_REPORT, start=empty.end(), end=last.end, superseded=last.superseded)
