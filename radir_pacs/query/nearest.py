"""What to offer for a query without an answer: the other side, the regions beside and around it, related findings."""

from __future__ import annotations

from collections.abc import Iterator

from radir_pacs import anatomy
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.lexicon_terms import MEASUREMENT, ROOT
from radir_pacs.types import ImageKind, Region

_OTHER_SIDE = {"left": "right", "right": "left"}


def neighbours(region: Region, kinds: frozenset[ImageKind]) -> tuple[Region, ...]:
    """The same region on the other side, the regions beside ``region``, those around it; each once, nearest first.

    kinds: only regions that images of these kinds show.
    """
    return tuple({found.key: found for found in _neighbours(region) if kinds & found.kinds}.values())


def _neighbours(region: Region) -> Iterator[Region]:
    above = anatomy.ancestors(region.key)
    mirrored = "_".join(_OTHER_SIDE.get(word, word) for word in region.key.split("_"))
    siblings = anatomy.children(above[0].key) if above else ()
    if mirrored != region.key:
        yield from (found for found in anatomy.regions() if found.key == mirrored)
    yield from (found for found in siblings if found.key != region.key)
    yield from above


def related(concept: str) -> tuple[str, ...]:
    """Findings one step broader than ``concept``, then narrower ones, then siblings; never the root of all findings."""
    concepts = load().concepts
    if concept not in concepts:
        return ()
    broader = [key for key in concepts[concept].is_a if key != ROOT]
    narrower = [key for key, other in concepts.items() if concept in other.is_a]
    beside = [key for key, other in concepts.items() if set(broader) & set(other.is_a)]
    found = dict.fromkeys((*broader, *narrower, *beside))
    return tuple(key for key in found if key not in (concept, MEASUREMENT))
