"""The lexicon's checker: reports everything that is wrong in the data files, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from radir_pacs import anatomy
from radir_pacs.errors import SettingError
from radir_pacs.reports.lexicon_data import FIRST, normal_words, read_data, read_normaliser
from radir_pacs.reports.lexicon_terms import ANYWHERE, ROOT
from radir_pacs.reports.tokens import Normaliser

_OWN_GROUPS = frozenset({"shared"})  # whose keys are words of the language


def faults(language: str = "en", extra: Iterable[Path] = ()) -> list[str]:
    """Every fault of the lexicon, worded; empty when it can be used. Raises SettingError if a file cannot be read."""
    data = read_data(language, extra)
    normalise = read_normaliser(data["spelling"])
    concepts: Mapping[str, Mapping[str, Any]] = data["concepts"]
    attributes: Mapping[str, list[str]] = data["attributes"]["attribute"]
    regions = {region.key for region in anatomy.regions()}
    observables = set(data["places"].get("observable", {}))
    return [
        *_hierarchy_faults(concepts),
        *_place_faults(concepts, regions, observables, set(attributes)),
        *_double_terms("concept", {key: row.get("terms", ()) for key, row in concepts.items()}, normalise),
        *_double_terms("attribute", attributes, normalise),
        *_double_terms("place", _place_terms(data["places"]), normalise),
        *(
            f"cues.toml has no group {group}.{name}"
            for group, names in {"negation": ("before", "after"), "break": ("words", "copula")}.items()
            for name in names
            if not data["cues"].get(group, {}).get(name)
        ),
        *(_unworded(data, read_data(FIRST)) if language != FIRST else ()),
    ]


def refuse_faults(language: str = "en", extra: Iterable[Path] = ()) -> None:
    """Raises SettingError with the first fault and the number of others."""
    found = faults(language, extra)
    if found:
        others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise SettingError(f"lexicon {language!r}: {found[0]}{others}")


def _unworded(data: Mapping[str, Any], first: Mapping[str, Any]) -> Iterator[str]:
    """What English has words for and this language has none, unless its row says ``unworded = true``."""
    for key, row in first["concepts"].items():
        own = data["concepts"][key]
        if row.get("terms") and not own["terms"] and not own.get("unworded", False):
            yield f"concept {key} has no words"
    for key in first["places"]["observable"].keys() - {
        key for key, row in data["places"]["observable"].items() if row["terms"] or row.get("unworded", False)
    }:
        yield f"observable {key} has no words"
    terms = data["places"]["terms"]
    for region in anatomy.regions():
        if region.laterality is None and region.key not in terms:
            yield f"region {region.key} has no words"
    for attribute in first["attributes"]["attribute"]:
        if not data["attributes"]["attribute"].get(attribute):
            yield f"attribute {attribute} has no words"
    for group, names in first["cues"].items():
        for name in names if group not in _OWN_GROUPS else ():
            if not data["cues"].get(group, {}).get(name):
                yield f"cues.toml has no group {group}.{name}"


def _hierarchy_faults(concepts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for key, row in concepts.items():
        parents = row.get("is_a")
        if parents is None or (not parents and key != ROOT):
            yield f"concept {key} is an orphan: it names no parent"
            continue
        for parent in parents:
            if parent not in concepts:
                yield f"concept {key} has the unknown parent {parent}"
        if key in _reached(parents, concepts):
            yield f"concept {key} is its own ancestor"


def _reached(parents: Iterable[str], concepts: Mapping[str, Mapping[str, Any]]) -> set[str]:
    reached: set[str] = set()
    waiting = list(parents)
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached.add(key)
            waiting += concepts.get(key, {}).get("is_a", ())
    return reached


def _place_faults(
    concepts: Mapping[str, Mapping[str, Any]], regions: set[str], observables: set[str], attributes: set[str]
) -> Iterator[str]:
    for key, row in concepts.items():
        if row.get("at") not in regions:
            yield f"concept {key} lies at the unknown region {row.get('at')}"
        for region in (*row.get("within", ()), *row.get("elsewhere", {}), *row.get("reads", {}).values()):
            if region not in regions and region != ANYWHERE:
                yield f"concept {key} names the unknown region {region}"
        for other in row.get("elsewhere", {}).values():
            if other and other not in concepts:
                yield f"concept {key} becomes the unknown concept {other}"
        for rule in row.get("formed", ()):
            named, _, places = rule.partition("+")
            for attribute in named.split("|"):
                if attribute.strip() not in attributes:
                    yield f"concept {key} is formed by the unknown attribute {attribute.strip()}"
            for place in places.split("|"):
                if place.strip() not in regions | observables:
                    yield f"concept {key} is formed at the unknown place {place.strip()}"


def _place_terms(places: Mapping[str, Any]) -> dict[str, list[str]]:
    terms = {key: list(names) for key, names in places.get("terms", {}).items()}
    for key, row in places.get("observable", {}).items():
        terms[key] = [*terms.get(key, ()), *row["terms"]]
    return terms


def _double_terms(what: str, terms: Mapping[str, Iterable[str]], normalise: Normaliser) -> Iterator[str]:
    owner: dict[tuple[str, ...], str] = {}
    for key, names in terms.items():
        for name in names:
            words = normal_words(name, normalise)
            other = owner.setdefault(words, key)
            if other != key:
                yield f"{name!r} is a term of the {what}s {other} and {key}"
