"""The regions and the side of a finding: its places resolved, and what it shares with the findings around it."""

from __future__ import annotations

from functools import lru_cache

from radir_pacs.reports.findings import Finding, Laterality
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import Concept, Cue
from radir_pacs.reports.marks import Mark
from radir_pacs.reports.placing import Place, regions_above, resolve
from radir_pacs.reports.scope import Scopes

_BREAK = Cue.BREAK
_SOFT_BREAK = Cue.SOFT_BREAK
_CLAUSE_END = Cue.BREAK | Cue.THERE
_FRAME_END = Cue.THERE | Cue.COMMA


def regions_of(
    where: list[Place], side: Laterality | None, concept: Concept | None, lexicon: Lexicon
) -> tuple[tuple[str, ...], Laterality | None]:
    """Region keys and laterality; a side directly beside the finding decides the laterality."""
    concept_key = None if concept is None else concept.key
    if not where:
        if concept is None:
            return (), side
        regions, sides = _at(None, concept.at, side, concept_key, lexicon)
    else:
        regions, sides = _at(where[0].key, where[0].region, where[0].side or side, concept_key, lexicon)
        for place in where[1:]:
            keys, own = _at(place.key, place.region, place.side or side, concept_key, lexicon)
            regions = (*regions, *(key for key in keys if key not in regions))
            sides |= own
    return regions, side or (next(iter(sides)) if len(sides) == 1 else Laterality.BILATERAL if sides else None)


@lru_cache(maxsize=100_000)
def _at(
    place: str | None, region: str, side: Laterality | None, concept: str | None, lexicon: Lexicon
) -> tuple[tuple[str, ...], frozenset[Laterality]]:
    """What ``region`` stands for on this side, as the concept (a key) reads the place (a key) that names it."""
    named = [region]
    if place is not None:
        reads = {} if concept is None else lexicon.concepts[concept].reads
        named = [reads.get(place, region), *lexicon.place_also.get(place, ())]
    found = [resolve(name, side, lexicon) for name in named]
    regions = dict.fromkeys(key for keys, _ in found for key in keys)
    return tuple(regions), frozenset(side for _, side in found if side is not None)


def on_side(side: Laterality | None, where: list[Place]) -> list[Place]:
    """The places that are not on another side than the finding."""
    return where if side is None else [place for place in where if place.side in (None, side)]


def nearer(where: list[Place], concept: Concept) -> list[Place]:
    """The more specific places: in "Chest: pneumothorax" the pneumothorax is in the pleura."""
    if not where:
        return where
    above = regions_above(concept.at)
    for place in where:
        if place.side is not None or concept.reads.get(place.key, place.region) not in above:
            return where
    return []


def framed(i: int, where: list[Place], marks: list[Mark], places: list[Place], lexicon: Lexicon) -> list[Place] | None:
    """The places with the side of the one that opens the clause: "in the left lung, there is a nodule at the base"."""
    for place in where:
        if place.side:
            return None
    clause = i - 1
    while clause >= 0 and not marks[clause].cue & _BREAK:
        clause -= 1
    frame = next((place for place in places if clause < place.index < i and place not in where), None)
    if frame is None:
        return None
    between = marks[frame.index + 1 : i]
    if any(mark.concept or mark.cue & _BREAK for mark in between) or not any(m.cue & _FRAME_END for m in between):
        return None
    around, side = resolve(frame.region, frame.side, lexicon)
    if side is None or side is Laterality.BILATERAL:
        return None
    found = []
    for place in where:
        keys, _ = resolve(place.region, side, lexicon)
        if not all(key == up or up in regions_above(key) for key in keys for up in around):
            return None
        found.append(Place(place.index, place.key, place.region, side, place.after_preposition))
    return found


def inherited(
    i: int,
    concept: Concept,
    marks: list[Mark],
    placed: dict[int, list[Place]],
    denied: bool,
    scopes: Scopes,
    side: Laterality | None,
) -> list[Place]:
    """The place of the nearest earlier finding that could share it: "left basilar opacity, likely atelectasis"."""
    if not placed:
        return []
    for j in range(i - 1, -1, -1):
        if marks[j].cue & _CLAUSE_END:
            break
        if j in placed and scopes.denied[j] == denied:
            fitting = [place for place in placed[j] if not concept.within or place.region in concept.within]
            fitting = on_side(side, fitting)
            if fitting:
                return fitting
    return []


def side_of_neighbour(i: int, marks: list[Mark], findings: list[Finding], denied: bool) -> Laterality | None:
    """The side of the finding that this one accompanies: "left effusion with adjacent atelectasis"."""
    if denied or not findings or not any(mark.cue & _SOFT_BREAK for mark in marks[max(0, i - 3) : i]):
        return None
    last = findings[-1]
    apart = any(mark.cue & _CLAUSE_END for mark in marks[:i] if mark.start > last.span[1])
    return last.laterality if last.asserted and not apart else None
