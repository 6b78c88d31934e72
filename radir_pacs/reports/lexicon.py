"""The lexicon: concepts, places, attributes and cues of one language, read from the data files of a folder.

``load("en")`` reads ``lexicon/en``; ``load("en", extra=(folder,))`` lets a hospital add concepts and terms without
touching the installed files. docs/reference/lexicon.md describes the files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from radir_pacs import anatomy
from radir_pacs.errors import SettingError
from radir_pacs.reports.findings import Change, FindingKind, Laterality, Severity
from radir_pacs.reports.tokens import TOKEN, Normaliser

FOLDER = Path(__file__).parent / "lexicon"
ROOT = "abnormality"
MEASUREMENT = "measurement"  # the size of a place, no finding
ANYWHERE = "*"


class Cue:
    """How a word steers the reading of the findings around it: bits in plain integers, being tested so often."""

    NEGATES_NEXT = 1 << 0
    NEGATES_LAST = 1 << 1
    APART = 1 << 2  # looks like a negation and is none
    PROBABLE_NEXT = 1 << 3
    POSSIBLE_NEXT = 1 << 4
    PROBABLE_LAST = 1 << 5
    POSSIBLE_LAST = 1 << 6
    HISTORY_NEXT = 1 << 7
    HISTORY_LAST = 1 << 8
    QUESTION = 1 << 9
    BREAK = 1 << 10
    SOFT_BREAK = 1 << 11
    THERE = 1 << 12
    COPULA = 1 << 13
    PREPOSITION = 1 << 14
    CONJUNCTION = 1 << 15
    ALTERNATIVE = 1 << 16  # "or", "nor"
    COMMA = 1 << 17
    PRONOUN = 1 << 18
    ARTICLE = 1 << 19
    PROJECTION = 1 << 20  # "overlying the rib": where the shadow falls, not where the finding is


_CUE_PLACES: Mapping[tuple[str, str], int] = {
    ("negation", "before"): Cue.NEGATES_NEXT,
    ("negation", "after"): Cue.NEGATES_LAST,
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


@dataclass(slots=True)
class Entry:
    """What a phrase may mean. A phrase can be an attribute in one company and a concept or a severity in another."""

    concept: str | None = None
    inner: str | None = None  # the place that a concept's phrase names itself: "rib fracture"
    attribute: str | None = None
    place: str | None = None
    side: Laterality | None = None
    severity: Severity | None = None
    change: Change | None = None
    cue: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """A node of the finding ontology."""

    key: str
    kind: FindingKind
    is_a: tuple[str, ...]
    at: str
    within: frozenset[str]  # region keys, closed downwards; empty: anywhere
    elsewhere: Mapping[str, str]  # region key, closed downwards -> the concept it is there; "": none
    reads: Mapping[str, str]  # place key -> region: what a vague place means for this concept
    absorbs: frozenset[str]  # attributes that say nothing further of it ("calcified granuloma")
    code: str | None
    terms: tuple[str, ...]
    formed: tuple[tuple[str, str], ...]  # (attribute, place)


class _Node(dict[str, "_Node"]):
    """A step of the phrase tree; ``entry`` is set where a phrase ends."""

    __slots__ = ("entry",)

    def __init__(self) -> None:
        super().__init__()
        self.entry: Entry | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Lexicon:
    """One language, compiled. ``phrases`` is a tree of normalised words."""

    language: str
    concepts: Mapping[str, Concept]
    ancestors: Mapping[str, frozenset[str]]  # of a concept, itself included
    headings: Mapping[str, str]
    mined_sections: frozenset[str]
    asked_sections: frozenset[str]
    normalise: Normaliser
    phrases: _Node
    place_region: Mapping[str, str]  # place key -> region key
    sided: Mapping[tuple[str, Laterality], str]  # region key without side, side -> region key
    formed: Mapping[tuple[str, str], str]  # (attribute, place or region key) -> concept
    place_also: Mapping[str, tuple[str, ...]]  # further regions of a place that spans two: "thoracolumbar"
    unlocated: frozenset[str]  # observables that are no place to put a finding
    paired: frozenset[str]  # regions that mean both sides when no side is named
    pair_words: frozenset[str]  # words whose form means both sides
    own_rules: frozenset[tuple[str, str]]  # the keys of ``formed`` that are written down, not inherited
    data: Mapping[str, Any] = field(repr=False)

    def words(self, phrase: str) -> list[str]:
        """The normalised words of a phrase; hyphens fall away."""
        return [self.normalise(word) for word in TOKEN.findall(phrase) if word != "-"]

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
    spelling = data["spelling"]
    normalise = Normaliser(
        spelling=spelling["patterns"], irregular=spelling["irregular"], keep=spelling["keep"]["words"]
    )
    concepts = _concepts(data["concepts"])
    place_terms, place_region = _places(data["places"], normalise)
    lexicon = Lexicon(
        language=language,
        concepts=concepts,
        ancestors={key: frozenset(_ancestors(key, concepts)) for key in concepts},
        headings={
            " ".join(term.lower().split()): name
            for name, terms in data["headings"]["headings"].items()
            for term in terms
        },
        mined_sections=frozenset(data["headings"]["mined"]),
        asked_sections=frozenset(data["headings"]["asked"]),
        normalise=normalise,
        phrases=_Node(),
        place_region=place_region,
        sided=_sided(place_terms, normalise),
        formed=_formed(concepts, place_region),
        place_also={
            key: tuple(row["also"]) for key, row in data["places"].get("observable", {}).items() if "also" in row
        },
        unlocated=frozenset(
            key for key, row in data["places"].get("observable", {}).items() if not row.get("locates", False)
        ),
        paired=frozenset(data["places"]["pairs"]["regions"]),
        pair_words=frozenset(data["places"]["pairs"]["words"]),
        own_rules=frozenset(rule for concept in concepts.values() for rule in concept.formed),
        data=data,
    )
    for concept in concepts.values():
        for term in concept.terms:
            _put(lexicon, term).concept = concept.key
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
    _find_inner_places(lexicon, place_terms)
    normalise.learn(_mendable(lexicon.phrases))
    for concept in concepts.values():
        for other in concept.elsewhere.values():
            if other and other not in concepts:
                raise SettingError(f"concept {concept.key!r} becomes the unknown concept {other!r}")
    return lexicon


def _find_inner_places(lexicon: Lexicon, place_terms: Mapping[tuple[str, ...], str]) -> None:
    """A concept's phrase that names a place of its own ("rib fracture") is a finding at that place."""
    longest = max(map(len, place_terms))
    for concept in lexicon.concepts.values():
        for term in concept.terms:
            words = _words(term, lexicon.normalise)
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


def read_data(language: str, extra: Iterable[Path] = ()) -> dict[str, Any]:
    """The data files of a language as nested tables, with the extra folders merged in (lists are joined)."""
    names = ("concepts", "places", "attributes", "cues", "headings", "spelling")
    data: dict[str, Any] = {}
    for number, folder in enumerate((FOLDER / language, *extra)):
        for name in names:
            path = folder / f"{name}.toml"
            if not path.is_file():
                if number == 0:
                    raise SettingError(f"lexicon {language!r} has no {name}.toml")
                continue
            try:
                table = tomllib.loads(path.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise SettingError(f"lexicon file {path.name}: {error}") from error
            data[name] = _merged(data.get(name, {}), table)
    return data


def _merged(base: Any, addition: Any) -> Any:
    if isinstance(base, dict) and isinstance(addition, dict):
        return {key: _merged(base.get(key), addition[key]) if key in addition else base[key] for key in base | addition}
    if isinstance(base, list) and isinstance(addition, list):
        return base + [item for item in addition if item not in base]
    return addition


def _concepts(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Concept]:
    concepts = {}
    for key, row in table.items():
        try:
            within = row.get("within", [row["at"]])
            concepts[key] = Concept(
                key=key,
                kind=FindingKind(row.get("kind", "abnormality")),
                is_a=tuple(row["is_a"]),
                at=anatomy.region(row["at"]).key,
                within=frozenset()
                if ANYWHERE in within
                else frozenset(below for region in within for below in (region, *_below(region))),
                elsewhere=_elsewhere(row.get("elsewhere", {})),
                reads=dict(row.get("reads", {})),
                absorbs=frozenset(row.get("absorbs", ())),
                code=row.get("code"),
                terms=tuple(row.get("terms", ())),
                formed=tuple(_formations(row.get("formed", ()))),
            )
        except (KeyError, ValueError) as error:
            raise SettingError(f"concept {key!r} of the lexicon: {error}") from error
    return concepts


def _elsewhere(table: Mapping[str, str]) -> dict[str, str]:
    """Closed downwards; of two regions that both cover a place the lower one decides."""
    regions = sorted(table, key=lambda region: len(anatomy.ancestors(region)))
    return {below: table[region] for region in regions for below in (region, *_below(region))}


def _below(region: str) -> Iterator[str]:
    return (item.key for item in anatomy.descendants(region))


def _formations(rules: Iterable[str]) -> Iterator[tuple[str, str]]:
    for rule in rules:
        attributes, plus, places = rule.partition("+")
        if not plus:
            raise ValueError(f"{rule!r} is not 'attribute + place'")
        for attribute in attributes.split("|"):
            for place in places.split("|"):
                yield attribute.strip(), place.strip()


def _ancestors(key: str, concepts: Mapping[str, Concept], seen: tuple[str, ...] = ()) -> Iterator[str]:
    if key in seen:
        raise SettingError(f"the lexicon has a cycle at concept {key!r}")
    if key not in concepts:
        raise SettingError(f"concept {key!r} is named as a parent and does not exist")
    yield key
    for parent in concepts[key].is_a:
        yield from _ancestors(parent, concepts, (*seen, key))


def _places(table: Mapping[str, Any], normalise: Normaliser) -> tuple[dict[tuple[str, ...], str], dict[str, str]]:
    """Word sequences of every place, and the region of each place; our own terms win over the anatomy's synonyms."""
    terms: dict[tuple[str, ...], str] = {}
    removed = {_words(term, normalise) for term in table.get("remove", {}).get("terms", ())}
    for region in anatomy.regions():
        for term in (region.name, *region.synonyms):
            words = _words(term, normalise)
            if words and words not in removed:
                terms.setdefault(words, region.key)
    regions = {region.key: region.key for region in anatomy.regions()}
    for key, names in table.get("terms", {}).items():
        if key not in regions:
            raise SettingError(f"places.toml names an unknown region {key!r}")
        terms.update({_words(term, normalise): key for term in names})
    for key, row in table.get("observable", {}).items():
        if row["region"] not in regions:
            raise SettingError(f"observable {key!r} names an unknown region {row['region']!r}")
        regions[key] = row["region"]
        terms.update({_words(term, normalise): key for term in row["terms"]})
    return terms, regions


def _words(phrase: str, normalise: Normaliser) -> tuple[str, ...]:
    return tuple(normalise.base(word) if word != "_" else word for word in TOKEN.findall(phrase) if word != "-")


def _sided(terms: Mapping[tuple[str, ...], str], normalise: Normaliser) -> dict[tuple[str, Laterality], str]:
    """Where "left X" is a place of its own, the left of X."""
    sided: dict[tuple[str, Laterality], str] = {}
    for words, place in terms.items():
        for side in (Laterality.LEFT, Laterality.RIGHT):
            of_side = terms.get((side.value, *words))
            if of_side is not None and of_side != place:
                sided.setdefault((place, side), of_side)
    return sided


def _formed(concepts: Mapping[str, Concept], place_region: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Attribute-and-place rules; a rule for a region holds for what lies below it unless that has its own."""
    formed: dict[tuple[str, str], str] = {}
    inherited: dict[tuple[str, str], tuple[int, str]] = {}
    for concept in concepts.values():
        for attribute, place in concept.formed:
            if place not in place_region:
                continue  # an observable of another installation; the checker names it
            formed[attribute, place] = concept.key
            if place_region[place] == place:
                below = list(_below(place))
                for region in below:
                    if (attribute, region) not in inherited or inherited[attribute, region][0] > len(below):
                        inherited[attribute, region] = (len(below), concept.key)
    return {key: concept for key, (_, concept) in inherited.items()} | formed


def _put(lexicon: Lexicon, term: str) -> Entry:
    return _put_words(lexicon.phrases, _words(term, lexicon.normalise))


def _put_words(node: _Node, words: Iterable[str]) -> Entry:
    for word in words:
        if word not in node:
            node[word] = _Node()
        node = node[word]
    if node.entry is None:
        node.entry = Entry()
    return node.entry


def _mendable(node: _Node) -> Iterator[str]:
    for word, below in node.items():
        yield word
        yield from _mendable(below)
