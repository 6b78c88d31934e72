"""The language of a request and the words in it: pages, notices, errors, regions and findings.

The catalogues are ``strings/en.toml`` and its translations. ``?lang=de`` chooses a language and a cookie keeps it; else
the browser's own (Accept-Language, RFC 9110 12.5.4) counts. What a person typed is brought into English, which is what
reports are read in.
"""

from __future__ import annotations

import difflib
import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, has_request_context, request

from radir_pacs import anatomy
from radir_pacs.errors import UnknownRegion
from radir_pacs.query.notices import ENGLISH, worded
from radir_pacs.reports import Typed, read_question
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.lexicon_terms import MEASUREMENT, Concept
from radir_pacs.reports.typed import TYPED_CHARACTERS
from radir_pacs.similar_cases import Notice
from radir_pacs.types import ImageKind

LANGUAGES = {"en": "English", "de": "Deutsch"}
COOKIE = "radir_lang"
PARAMETER = "lang"
_YEAR_S = 365 * 24 * 3600
_UNOFFERED = frozenset({MEASUREMENT, "technical_limit", "contrast_media"})
_ENDINGS = re.compile(r"(?<=\w{4})(ern|em|er|en|es|e|s|n)\Z")
_TOKEN = re.compile(r"[\w-]+|[^\w\s]")
_SIDES = frozenset({"left", "right", "bilateral"})
_SURE = 0.75  # the likeness of two wordings from which on one is offered for the other


@dataclass(frozen=True, kw_only=True)
class Language:
    """The words of one language."""

    tag: str
    catalogue: dict[str, Any]

    def say(self, key: str, **values: object) -> str:
        """A text of the pages, filled in. Raises KeyError for a text that no catalogue has."""
        text: str = self.catalogue["pages"][key]
        return text.format(**values)

    def state(self, state: str) -> str:
        return str(self.catalogue["states"][state])

    def region(self, key: str) -> str:
        """The region's name; UnknownRegion if there is no such key."""
        return self._names("regions", key) or anatomy.region(key).name

    def finding(self, concept: str) -> str:
        return self._names("findings", concept) or concept.replace("_", " ")

    def severity(self, grade: str) -> str:
        return str(self.catalogue.get("severity", {}).get(grade, grade))

    def error(self, code: str, message: str) -> str:
        """What went wrong, by its code; ``message``, which is English, where the language has no sentence for it."""
        known: dict[str, str] = self.catalogue.get("errors", {})
        return known.get(code, known.get("error", message))

    def notice(self, notice: Notice) -> str:
        """A notice as a sentence."""
        templates = self.catalogue.get("notices")
        if templates is None:
            return worded(notice, ENGLISH)
        cases = self.catalogue["plurals"]
        return worded(
            notice,
            templates,
            self.catalogue["image_notes"],
            region_name=self.region,
            finding_name=self.finding,
            cases=lambda count: cases["one" if count == 1 else "many"].format(count=count),
        )

    def other_words(self, table: str, key: str) -> tuple[str, ...]:
        """Other words for a region or finding, besides its name."""
        return tuple(self.catalogue.get(table, {}).get(key, ())[1:])

    def _names(self, table: str, key: str) -> str | None:
        names = self.catalogue.get(table, {}).get(key)
        return names[0] if names else None


@cache
def language(tag: str) -> Language:
    text = (files("radir_pacs.web") / "strings" / f"{tag}.toml").read_text(encoding="utf-8")
    return Language(tag=tag, catalogue=tomllib.loads(text))


def current() -> Language:
    """The language of the current request."""
    if not has_request_context():
        return language("en")
    asked = (request.args.get(PARAMETER), request.cookies.get(COOKIE))
    tags = (*(tag for tag in asked if tag), *request.accept_languages.values())
    return language(next((tag[:2].lower() for tag in tags if tag[:2].lower() in LANGUAGES), "en"))


def install(app: Flask) -> None:
    """Give the templates their words, and keep a language that was asked for."""

    @app.context_processor
    def words() -> dict[str, Any]:
        spoken = current()
        others = [(tag, name, _query_in(tag)) for tag, name in LANGUAGES.items() if tag != spoken.tag]
        return {"say": spoken.say, "language": spoken, "other_languages": others}

    @app.after_request
    def keep(response: Response) -> Response:
        if response.mimetype == "text/html":
            response.vary.update(("Accept-Language", "Cookie"))
            wanted = request.args.get(PARAMETER)
            if wanted in LANGUAGES:
                response.set_cookie(COOKIE, wanted, max_age=_YEAR_S, samesite="Lax", httponly=True)
        return response


def _query_in(tag: str) -> str:
    """The current request's query in another language."""
    kept = [(name, value) for name, value in request.args.items(multi=True) if name != PARAMETER]
    return urlencode([*kept, (PARAMETER, tag)])


def offered_findings() -> tuple[str, ...]:
    """The concepts that a person may ask for by name, in the lexicon's order."""
    return tuple(key for key, concept in load().concepts.items() if concept.terms and key not in _UNOFFERED)


def read(text: str, kind: ImageKind | None = None) -> Typed:
    """What words in the current language mean, as ``read_question`` has it.

    Raises UnknownRegion with the nearest names in that language.
    """
    return _read(text, current().tag, kind)


@lru_cache(maxsize=512)  # viewers ask about the same few regions; reading one takes longer than searching it
def _read(text: str, tag: str, kind: ImageKind | None) -> Typed:
    spoken = language(tag)
    try:
        return read_question(in_english(text, spoken), kind)
    except UnknownRegion as error:
        raise UnknownRegion(text, _nearest(text, spoken, kind) or error.nearest) from None


def in_english(text: str, spoken: Language) -> str:
    """``text`` with the names and function words of its language translated into English; the rest is unchanged."""
    known = _phrases(spoken.tag)
    if not known:
        return text
    tokens = _TOKEN.findall(text)
    stems = [_stem(token) for token in tokens]
    longest = max(len(phrase) for phrase in known)
    said: list[str] = []
    at = 0
    while at < len(tokens):
        for length in range(min(longest, len(tokens) - at), 0, -1):
            meant = known.get(tuple(stems[at : at + length]))
            if meant is not None:
                # "Erguss links" is "left effusion": in English the side comes first.
                said.insert(len(said) - 1 if meant in _SIDES and said else len(said), meant)
                at += length
                break
        else:
            said.append(tokens[at])
            at += 1
    return " ".join(said)


@cache
def _phrases(tag: str) -> dict[tuple[str, ...], str]:
    """A language's words in English, by their stems."""
    catalogue, concepts = language(tag).catalogue, load().concepts
    pairs = [(words, english) for words, english in catalogue.get("words", {}).items()]
    for key, names in catalogue.get("findings", {}).items():
        pairs += [(name, _term(concepts[key])) for name in names if concepts[key].terms]
    for key, names in catalogue.get("regions", {}).items():
        pairs += [(name, anatomy.region(key).name) for name in names]
    return {tuple(map(_stem, _TOKEN.findall(words))): english for words, english in pairs}


def _term(concept: Concept) -> str:
    """A phrase that mining reads as the concept."""
    words = concept.key.replace("_", " ")
    return words if words in concept.terms else concept.terms[0]


def _stem(word: str) -> str:
    """A word without case, accents and endings: "rechten" and "Rechter" are one."""
    plain = unicodedata.normalize("NFKD", word.lower().replace("ß", "ss"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    before = ""
    while before != plain:
        before, plain = plain, _ENDINGS.sub("", plain)
    return plain


def _nearest(text: str, spoken: Language, kind: ImageKind | None) -> tuple[str, ...]:
    """Names in the reader's language that look like what was typed."""
    known = {}
    for key in offered_findings():
        for name in (spoken.finding(key), *spoken.other_words("findings", key)):
            known[name.lower()] = spoken.finding(key)
    for region in anatomy.regions(kind):
        for name in (spoken.region(region.key), *spoken.other_words("regions", region.key)):
            known[name.lower()] = spoken.region(region.key)
    close = difflib.get_close_matches(text.lower()[:TYPED_CHARACTERS], known, n=9, cutoff=_SURE)
    return tuple(dict.fromkeys(known[name] for name in close))[:3]
