"""The lexicon's data files as tables, and what is in them: concepts, places, sides, formations."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from radir_pacs import anatomy
from radir_pacs.errors import SettingError
from radir_pacs.reports.findings import FindingKind, Laterality
from radir_pacs.reports.lexicon_terms import ANYWHERE, Concept
from radir_pacs.reports.sections import Headings, heading_words
from radir_pacs.reports.tokens import TOKEN, Normaliser

FOLDER = Path(__file__).parent / "lexicon"
LANGUAGES = ("en", "de")  # that there is a folder for
FIRST = "en"  # whose folder has the ontology; the others have words for it
_FILES = ("concepts", "places", "attributes", "cues", "headings", "spelling", "sentences")


def read_data(language: str, extra: Iterable[Path] = ()) -> dict[str, Any]:
    """The data files of a language as nested tables, with the extra folders merged in (lists are joined).

    What a concept or observable is, apart from its words, is the same in every language and stands in ``lexicon/en``.
    """
    data = _tables((FOLDER / language, *extra), language)
    if language != FIRST:
        first = _tables((FOLDER / FIRST,), FIRST)
        data["concepts"] = _merged(_wordless(first["concepts"]), data["concepts"])
        places, known = data["places"], first["places"]
        places["observable"] = _merged(_wordless(known["observable"]), places.get("observable", {}))
        places["pairs"] = {"regions": known["pairs"]["regions"]} | places["pairs"]
        data["headings"] = _merged(first["headings"], data["headings"])  # "IMPRESSION" may stand above any language
    return data


def _wordless(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        key: {name: value for name, value in row.items() if name != "terms"} | {"terms": []}
        for key, row in rows.items()
    }


def _tables(folders: Iterable[Path], language: str) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for number, folder in enumerate(folders):
        for name in _FILES:
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


def read_normaliser(spelling: Mapping[str, Any]) -> Normaliser:
    """How the words of a language are brought to one form, from its ``spelling.toml``."""
    return Normaliser(
        spelling=spelling["patterns"],
        irregular=spelling["irregular"],
        keep=spelling["keep"]["words"],
        endings=spelling.get("inflection", {}).get("endings"),
        compounds=spelling.get("compounds"),
        dropped=spelling.get("signs", {}).get("dropped", "-"),
    )


def _merged(base: Any, addition: Any) -> Any:
    if isinstance(base, dict) and isinstance(addition, dict):
        return {key: _merged(base.get(key), addition[key]) if key in addition else base[key] for key in base | addition}
    if isinstance(base, list) and isinstance(addition, list):
        return base + [item for item in addition if item not in base]
    return addition


def read_concepts(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Concept]:
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
                else frozenset(below for region in within for below in (region, *regions_below(region))),
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
    """Closed downwards; where two regions cover a place, the lower one decides."""
    regions = sorted(table, key=lambda region: len(anatomy.ancestors(region)))
    return {below: table[region] for region in regions for below in (region, *regions_below(region))}


def regions_below(region: str) -> Iterator[str]:
    return (item.key for item in anatomy.descendants(region))


def _formations(rules: Iterable[str]) -> Iterator[tuple[str, str]]:
    for rule in rules:
        attributes, plus, places = rule.partition("+")
        if not plus:
            raise ValueError(f"{rule!r} is not 'attribute + place'")
        for attribute in attributes.split("|"):
            for place in places.split("|"):
                yield attribute.strip(), place.strip()


def self_and_above(key: str, concepts: Mapping[str, Concept], seen: tuple[str, ...] = ()) -> Iterator[str]:
    if key in seen:
        raise SettingError(f"the lexicon has a cycle at concept {key!r}")
    if key not in concepts:
        raise SettingError(f"concept {key!r} is named as a parent and does not exist")
    yield key
    for parent in concepts[key].is_a:
        yield from self_and_above(parent, concepts, (*seen, key))


def read_headings(table: Mapping[str, Any], concepts: Mapping[str, Concept], normalise: Normaliser) -> Headings:
    names = {" ".join(heading_words(term)): section for section, terms in table["headings"].items() for term in terms}
    labels = {" ".join(heading_words(term)) for term in table["labels"]["places"]}
    words = {word: section for section, known in table["words"].items() for word in known}
    fillers = frozenset(table["labels"]["fillers"])
    said = {word for concept in concepts.values() for term in concept.terms for word in normal_words(term, normalise)}
    plural = {f"{word}s" for word in said}
    return Headings(
        names=names | dict.fromkeys(labels, table["labels"]["section"]),
        words=words,
        ranks=table["words"],
        fillers=fillers,
        labels=labels,
        findings=(said | plural) - fillers - words.keys(),
        mined=table["mined"],
        patient=table["labels"]["patient"],
        patient_words=table["labels"]["patient_words"],
        shown=table["labels"].get("shown", ()),
        titled=table["labels"].get("titled", ()),
        statements=table["labels"].get("statements", ()),
    )


def place_words(table: Mapping[str, Any], normalise: Normaliser) -> tuple[dict[tuple[str, ...], str], dict[str, str]]:
    """Word sequences of every place, and the region of each place; our own terms win over the anatomy's synonyms.

    The anatomy's names and synonyms are English: another language lists all of its words itself.
    """
    terms: dict[tuple[str, ...], str] = {}
    removed = {normal_words(term, normalise) for term in table.get("remove", {}).get("terms", ())}
    for region in anatomy.regions() if table.get("anatomy", {}).get("names", False) else ():
        for term in (region.name, *region.synonyms):
            words = normal_words(term, normalise)
            if words and words not in removed:
                terms.setdefault(words, region.key)
    regions = {region.key: region.key for region in anatomy.regions()}
    for key, names in table.get("terms", {}).items():
        if key not in regions:
            raise SettingError(f"places.toml names an unknown region {key!r}")
        terms.update({normal_words(term, normalise): key for term in names})
    for key, row in table.get("observable", {}).items():
        if row["region"] not in regions:
            raise SettingError(f"observable {key!r} names an unknown region {row['region']!r}")
        regions[key] = row["region"]
        terms.update({normal_words(term, normalise): key for term in row["terms"]})
    return terms, regions


def normal_words(phrase: str, normalise: Normaliser) -> tuple[str, ...]:
    """The words of a phrase in normal form, compounds in their parts; hyphens are dropped."""
    words = (word for word in TOKEN.findall(phrase) if word not in normalise.dropped)
    return tuple(part for word in words for part in (normalise.parts(word) if word != "_" else (word,)))


def sided_regions(terms: Mapping[tuple[str, ...], str]) -> dict[tuple[str, Laterality], str]:
    """The left and right of X, where "left X" and "right X" are places themselves."""
    sided: dict[tuple[str, Laterality], str] = {}
    for words, place in terms.items():
        for side in (Laterality.LEFT, Laterality.RIGHT):
            of_side = terms.get((side.value, *words))
            if of_side is not None and of_side != place:
                sided.setdefault((place, side), of_side)
    return sided


def formation_rules(concepts: Mapping[str, Concept], place_region: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Attribute-and-place rules; a rule for a region also holds below it, except where there is another rule."""
    formed: dict[tuple[str, str], str] = {}
    inherited: dict[tuple[str, str], tuple[int, str]] = {}
    for concept in concepts.values():
        for attribute, place in concept.formed:
            if place not in place_region:
                continue  # an observable of another installation; the checker names it
            formed[attribute, place] = concept.key
            if place_region[place] == place:
                below = list(regions_below(place))
                for region in below:
                    if (attribute, region) not in inherited or inherited[attribute, region][0] > len(below):
                        inherited[attribute, region] = (len(below), concept.key)
    return {key: concept for key, (_, concept) in inherited.items()} | formed
