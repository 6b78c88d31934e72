"""Where a finding is: places of a sentence with their sides, and which of them belongs to which finding."""

from __future__ import annotations

from functools import cache

from radir_pacs import anatomy
from radir_pacs.reports.findings import Laterality
from radir_pacs.reports.lexicon import Concept, Cue, Lexicon
from radir_pacs.reports.marks import Mark


@cache
def _above(region: str) -> frozenset[str]:
    return frozenset(item.key for item in anatomy.ancestors(region))


_REACH = 3  # words between a side and the place or finding it qualifies
_BOUNDARY = Cue.BREAK
_PAIR = {Laterality.LEFT, Laterality.RIGHT}


class Place:
    """A place named in a sentence, at mark ``index``; ``after_preposition``: "in the left base"."""

    __slots__ = ("after_preposition", "index", "region", "side")

    def __init__(self, index: int, region: str, side: Laterality | None, after_preposition: bool) -> None:
        self.index, self.region, self.side, self.after_preposition = index, region, side, after_preposition


def read_places(marks: list[Mark], lexicon: Lexicon) -> tuple[list[Place], dict[int, Laterality]]:
    """Places in order, neighbours that name one place merged; and sides that stand directly at a finding."""
    places: list[Place] = []
    sides: dict[int, Laterality] = {}  # mark index of a concept -> side
    side: Laterality | None = None
    side_at = -99
    preposition_at = -99
    for i, mark in enumerate(marks):
        if mark.cue & Cue.PREPOSITION:
            preposition_at = mark.last
        if mark.side is not None:
            if side is not None and {side, mark.side} == _PAIR and mark.first - side_at <= _REACH:
                side = Laterality.BILATERAL
            else:
                _give_back(side, side_at, places, sides, marks, i)
                side = mark.side
            side_at = mark.last
            if mark.entry.place is None:
                continue
        if mark.place is not None:
            region = lexicon.place_region[mark.place]
            own = side if side is not None and mark.first - side_at <= _REACH + 1 else None
            if own is not None:
                side = None
            near_preposition = mark.first - preposition_at <= _REACH + 1
            last = places[-1] if places else None
            if (
                last is not None
                and mark.first - marks[last.index].last <= _REACH + 1
                and _same_place(last, region, marks, i)
            ):
                last.region, last.side = _merged(last, region, own)
                last.index = i if len(_above(region)) > len(_above(last.region)) else last.index
                continue
            places.append(Place(i, region, own, near_preposition))
        elif mark.concept is not None and side is not None:
            if mark.first - side_at <= _REACH:
                sides[i] = side
                side = None
        elif mark.cue & (_BOUNDARY | Cue.COMMA) and side is not None:
            _give_back(side, side_at, places, sides, marks, i)
            side = None
    _give_back(side, side_at, places, sides, marks, len(marks))
    return places, sides


def _give_back(
    side: Laterality | None,
    side_at: int,
    places: list[Place],
    sides: dict[int, Laterality],
    marks: list[Mark],
    before: int,
) -> None:
    """A side with nothing after it belongs to what stands before it: "effusion on the left"."""
    if side is None:
        return
    for j in range(before - 1, -1, -1):
        mark = marks[j]
        if mark.last >= side_at:
            continue
        if mark.cue & _BOUNDARY:
            return
        if mark.place is not None:
            for place in reversed(places):
                if place.index == j:
                    place.side = place.side or side
                    return
            return
        if mark.concept is not None:
            sides.setdefault(j, side)
            return


def _same_place(last: Place, region: str, marks: list[Mark], i: int) -> bool:
    """ "right lung, lower lobe" and "upper lobe of the left lung" are one place; "heart and lungs" are two."""
    between = marks[last.index + 1 : i]
    if any(mark.concept or mark.cue & (Cue.CONJUNCTION | Cue.BREAK | Cue.COPULA) for mark in between):
        return False
    return region == last.region or last.region in _above(region) or region in _above(last.region)


def _merged(last: Place, region: str, side: Laterality | None) -> tuple[str, Laterality | None]:
    deeper = region if len(_above(region)) >= len(_above(last.region)) else last.region
    return deeper, last.side or side or _own_side(region) or _own_side(last.region)


@cache
def _own_side(region: str) -> Laterality | None:
    code = anatomy.region(region).laterality
    if code is None:
        return None
    return {"7771000": Laterality.LEFT, "24028007": Laterality.RIGHT}.get(code.value)


def resolve(region: str, side: Laterality | None, lexicon: Lexicon) -> tuple[tuple[str, ...], Laterality | None]:
    """Region keys for a place and a side, and the laterality they have; both sides become both regions."""
    own = _own_side(region)
    if side is None or own is not None:
        return (region,), own
    if side is Laterality.BILATERAL:
        both = [lexicon.sided.get((region, part)) for part in (Laterality.LEFT, Laterality.RIGHT)]
        return (tuple(key for key in both if key) or (region,)), side
    return (lexicon.sided.get((region, side), region),), side


def places_of(concept_at: int, concept: Concept, marks: list[Mark], places: list[Place]) -> list[Place]:
    """The places that belong to the finding at mark ``concept_at``, of those where such a finding may be."""
    before = _before(concept_at, concept, marks, places)
    after = _after(concept_at, concept, marks, places)
    if before and not before[0].after_preposition:
        return before + [place for place in after if place.after_preposition and _refines(place, before)]
    return after or before


def _allowed(place: Place, concept: Concept) -> bool:
    return not concept.within or place.region in concept.within or place.region in concept.elsewhere


def _refines(place: Place, others: list[Place]) -> bool:
    return all(place.region != other.region for other in others)


def _before(at: int, concept: Concept, marks: list[Mark], places: list[Place]) -> list[Place]:
    """Places in front of a finding: its modifiers ("right basilar opacity") or a fronted "in the right base, ..."."""
    by_index = {place.index: place for place in places}
    found: list[Place] = []
    crossed = False
    for j in range(at - 1, -1, -1):
        mark = marks[j]
        if mark.cue & _BOUNDARY:
            break
        if j in by_index:
            place = by_index[j]
            if _allowed(place, concept) and not (crossed and not place.after_preposition):
                found.append(place)
            continue
        if mark.concept is not None:
            if any(m.cue & Cue.CONJUNCTION or m.cue & Cue.COMMA for m in marks[j + 1 : at]) and not found:
                crossed = True  # "right basilar scarring and atelectasis" share the modifier
                if _has_own(j, marks, by_index):
                    continue
            if found:
                break
            crossed = True
        elif mark.cue & (Cue.NEGATES_LAST | Cue.COPULA) and found:
            break
    found.reverse()
    return found


def _has_own(j: int, marks: list[Mark], by_index: dict[int, Place]) -> bool:
    return j - 1 in by_index


def _after(at: int, concept: Concept, marks: list[Mark], places: list[Place]) -> list[Place]:
    """Places behind a finding, up to the next statement: "opacity in the left base and lingula"."""
    by_index = {place.index: place for place in places}
    found: list[Place] = []
    for j in range(at + 1, len(marks)):
        mark = marks[j]
        if mark.cue & (_BOUNDARY | Cue.THERE):
            break
        if j in by_index:
            place = by_index[j]
            if _allowed(place, concept) and (place.after_preposition or found):
                nearer = j + 1 < len(marks) and marks[j + 1].concept is not None
                if nearer and not place.after_preposition:
                    break  # "... and right apical scarring": the next finding's modifier
                found.append(place)
        elif mark.concept is not None and found:
            break
        elif mark.concept is not None and not any(m.cue & (Cue.CONJUNCTION | Cue.COMMA) for m in marks[at + 1 : j]):
            continue
    return found
