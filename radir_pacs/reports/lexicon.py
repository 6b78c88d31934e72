"""The lexicon of one language, compiled from its data files: a tree of phrases and the rules around it.

``load("en")`` reads ``lexicon/en``; ``load("en", extra=(folder,))`` lets a hospital add concepts and terms without
touching the installed files. docs/reference/lexicon.md describes the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from radir_pacs import anatomy
from radir_pacs.errors import SettingError
from radir_pacs.reports.findings import Change, FindingKind, Laterality, Severity
from radir_pacs.reports.lexicon_data import (
    FIRST,
    LANGUAGES,
    formation_rules,
    normal_words,
    place_words,
    read_concepts,
    read_data,
    read_headings,
    read_normaliser,
    self_and_above,
    sided_regions,
)
from radir_pacs.reports.lexicon_terms import Concept, Cue, Entry, PhraseNode
from radir_pacs.reports.sections import Headings
from radir_pacs.reports.studies import Titles
from radir_pacs.reports.tokens import TOKEN, Normaliser
from radir_pacs.reports.writing import Writing, read_writing

_CUE_PLACES: Mapping[tuple[str, str], int] = {
    ("negation", "before"): Cue.NEGATES_NEXT,
    ("negation", "after"): Cue.NEGATES_LAST,
    ("negation", "closing"): Cue.CLOSES,
    ("negation", "apart"): Cue.APART,
    ("doubt", "probable_before"): Cue.PROBABLE_NEXT,
    ("doubt", "possible_before"): Cue.POSSIBLE_NEXT,
    ("doubt", "probable_after"): Cue.PROBABLE_LAST,
    ("doubt", "possible_after"): Cue.POSSIBLE_LAST,
    ("history", "before"): Cue.HISTORY_NEXT,
    ("history", "after"): Cue.HISTORY_LAST,
    ("question", "before"): Cue.QUESTION,
    ("break", "words"): Cue.BREAK,
    ("break", "soft"): Cue.SOFT_BREAK,
    ("break", "there"): Cue.THERE,
    ("break", "copula"): Cue.COPULA,
    ("break", "prepositions"): Cue.PREPOSITION,
    ("break", "conjunctions"): Cue.CONJUNCTION,
    ("break", "alternatives"): Cue.ALTERNATIVE,
    ("break", "commas"): Cue.COMMA,
    ("break", "pronouns"): Cue.PRONOUN,
    ("break", "articles"): Cue.ARTICLE,
    ("break", "projections"): Cue.PROJECTION | Cue.PREPOSITION,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Lexicon:
    """One language, compiled. ``phrases`` is a tree of normalised words."""

    language: str
    concepts: Mapping[str, Concept]
    ancestors: Mapping[str, frozenset[str]]  # of a concept, itself included
    headings: Headings
    titles: Titles
    vocabulary: frozenset[str]  # every word of the phrases, normalised
    mined_sections: frozenset[str]
    asked_sections: frozenset[str]
    normalise: Normaliser
    phrases: PhraseNode
    place_region: Mapping[str, str]  # place key -> region key
    sided: Mapping[tuple[str, Laterality], str]  # region key without side, side -> region key
    formed: Mapping[tuple[str, str], str]  # (attribute, place or region key) -> concept
    place_also: Mapping[str, tuple[str, ...]]  # further regions of a place that spans two: "thoracolumbar"
    unlocated: frozenset[str]  # observables that are not a place for a finding
    paired: frozenset[str]  # regions that mean both sides when no side is named
    pair_words: frozenset[str]  # words whose form means both sides
    own_rules: frozenset[tuple[str, str]]  # the keys of ``formed`` that are written down, not inherited
    sides_follow: bool  # whether a side may stand right behind what it is the side of: "Erguss rechts"
    devices_remain: bool  # whether "status after" a device or operation says that it is there
    writing: Writing
    boilerplate: tuple[str, ...]  # what a sentence about the text itself has: how it was dictated
    signed: tuple[str, ...]  # what a signature begins with
    compared: tuple[str, ...]  # what a comparison of the two sides has,
    sides: tuple[str, ...]  # and what names them in it
    shared: tuple[tuple[tuple[str, ...], frozenset[str]], ...]  # nouns, and adjectives that may share them
    data: Mapping[str, Any] = field(repr=False)

    def words(self, phrase: str) -> list[str]:
        """The normalised words of a phrase, compounds in their parts; hyphens are dropped."""
        words = (word for word in TOKEN.findall(phrase) if word not in self.normalise.dropped)
        return [part for word in words for part in self.normalise.all(word)]

    def entry(self, phrase: str) -> Entry | None:
        """What exactly this phrase means, or None."""
        node = self.phrases
        for word in self.words(phrase):
            if word not in node:
                return None
            node = node[word]
        return node.entry


@lru_cache(maxsize=8)
def load(language: str = "en", extra: tuple[Path, ...] = ()) -> Lexicon:
    """Read and compile a lexicon. Raises SettingError if a file is missing or contradicts itself."""
    data = read_data(language, extra)
    normalise = read_normaliser(data["spelling"])
    concepts = read_concepts(data["concepts"])
    place_terms, place_region = place_words(data["places"], normalise)
    lexicon = Lexicon(
        language=language,
        concepts=concepts,
        ancestors={key: frozenset(self_and_above(key, concepts)) for key in concepts},
        headings=read_headings(data["headings"], concepts, normalise),
        titles=Titles(data["headings"]["studies"]),
        vocabulary=frozenset(),
        mined_sections=frozenset(data["headings"]["mined"]),
        asked_sections=frozenset(data["headings"]["asked"]),
        normalise=normalise,
        phrases=PhraseNode(),
        place_region=place_region,
        sided=sided_regions(place_terms) if language == FIRST else load(FIRST).sided,
        formed=formation_rules(concepts, place_region),
        place_also={
            key: tuple(row["also"]) for key, row in data["places"].get("observable", {}).items() if "also" in row
        },
        unlocated=frozenset(
            key for key, row in data["places"].get("observable", {}).items() if not row.get("locates", False)
        ),
        paired=frozenset(data["places"]["pairs"]["regions"]),
        pair_words=frozenset(data["places"]["pairs"]["words"]),
        own_rules=frozenset(rule for concept in concepts.values() for rule in concept.formed),
        sides_follow=bool(data["places"].get("sides", {}).get("follow", False)),
        devices_remain=bool(data["cues"]["history"].get("devices_remain", False)),
        writing=read_writing(data["sentences"]),
        boilerplate=tuple(data["cues"].get("boilerplate", {}).get("signs", ())),
        signed=tuple(data["cues"].get("boilerplate", {}).get("starts", ())),
        compared=tuple(data["cues"].get("sided", {}).get("signs", ())),
        sides=tuple(data["cues"].get("sided", {}).get("sides", ())),
        shared=tuple(
            (tuple(noun.split()), frozenset(adjectives)) for noun, adjectives in data["cues"].get("shared", {}).items()
        ),
        data=data,
    )
    for concept in concepts.values():
        for term in concept.terms:
            entry = _put(lexicon, term)
            entry.concept, entry.device = concept.key, concept.kind is FindingKind.DEVICE
    for attribute, terms in data["attributes"]["attribute"].items():
        for term in terms:
            _put(lexicon, term).attribute = attribute
    for words, place in place_terms.items():
        if (
            words[0] not in ("left", "right", "bilateral", "both") or words[1:] not in place_terms
        ):  # else composed: side + place
            _put_words(lexicon.phrases, words).place = place
    for severity in Severity:
        for term in data["cues"]["severity"][severity]:
            _put(lexicon, term).severity = severity
    for change in Change:
        for term in data["cues"]["change"][change]:
            _put(lexicon, term).change = change
    for side in Laterality:
        for term in data["cues"]["side"][side]:
            _put(lexicon, term).side = side
    for (group, name), cue in _CUE_PLACES.items():
        for term in data["cues"][group][name]:
            _put(lexicon, term).cue |= cue
    for term in data["cues"].get("neutral", {}).get("words", ()):
        _put(lexicon, term)  # a phrase that hides a word in it: "8 mm großer"
    _find_inner_places(lexicon, place_terms)
    vocabulary = frozenset(_mendable(lexicon.phrases))
    normalise.learn(vocabulary)
    lexicon = replace(lexicon, vocabulary=vocabulary)
    for concept in concepts.values():
        for other in concept.elsewhere.values():
            if other and other not in concepts:
                raise SettingError(f"concept {concept.key!r} becomes the unknown concept {other!r}")
    return lexicon


def is_heading(words: str, *, loosely: bool) -> bool:
    """Whether the words head a section in a language that reports are read in; loosely: in English by likeness too."""
    return any(
        load(language).headings.name(words, loosely=loosely and language == FIRST) is not None for language in LANGUAGES
    )


def _find_inner_places(lexicon: Lexicon, place_terms: Mapping[tuple[str, ...], str]) -> None:
    """Note the place that a concept's phrase itself names: "rib fracture" is a finding at the ribs."""
    longest = max(map(len, place_terms))
    for concept in lexicon.concepts.values():
        for term in concept.terms:
            words = normal_words(term, lexicon.normalise)
            inner = None
            for size in range(min(longest, len(words)), 0, -1):
                for first in range(len(words) - size + 1):
                    place = place_terms.get(words[first : first + size])
                    if place is None or place in lexicon.unlocated:
                        continue
                    region = concept.reads.get(place, lexicon.place_region[place])
                    if region != concept.at and region in concept.within and region not in _upwards(concept.at):
                        inner = inner or place
            entry = lexicon.entry(term)
            if entry is not None and entry.concept == concept.key:
                entry.inner = inner


def _upwards(region: str) -> set[str]:
    return {item.key for item in anatomy.ancestors(region)}


def _put(lexicon: Lexicon, term: str) -> Entry:
    return _put_words(lexicon.phrases, normal_words(term, lexicon.normalise))


def _put_words(node: PhraseNode, words: Iterable[str]) -> Entry:
    for word in words:
        if word not in node:
            node[word] = PhraseNode()
        node = node[word]
    if node.entry is None:
        node.entry = Entry()
    return node.entry


def _mendable(node: PhraseNode) -> Iterator[str]:
    for word, below in node.items():
        yield word
        yield from _mendable(below)
