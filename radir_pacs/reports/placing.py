"""Where a finding is: the places in a sentence with their sides, and which of them belong to which finding."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from radir_pacs import anatomy
from radir_pacs.reports.findings import FindingKind, Laterality
from radir_pacs.reports.lexicon import Lexicon
from radir_pacs.reports.lexicon_terms import Concept, Cue
from radir_pacs.reports.marks import Mark

_REACH = 5  # words between a side and the place or finding it qualifies
_NEXT_TO = 2  # words between the parts of a description
_PAIR = {Laterality.LEFT, Laterality.RIGHT}
_PHRASE_END = Cue.BREAK | Cue.THERE | Cue.COPULA | Cue.SOFT_BREAK | Cue.NEGATES_LAST | Cue.COMMA
_STATEMENT_END = Cue.BREAK | Cue.THERE | Cue.COMMA | Cue.COPULA | Cue.SOFT_BREAK
_LINK = Cue.CONJUNCTION | Cue.COMMA
_BREAK, _COMMA, _COPULA = Cue.BREAK, Cue.COMMA, Cue.COPULA  # an attribute of a class is slow to look up
_PREPOSITION, _PROJECTION, _CONJUNCTION = Cue.PREPOSITION, Cue.PROJECTION, Cue.CONJUNCTION
_CLAUSE_END = Cue.BREAK | Cue.THERE
_QUIET = Cue.COMMA | Cue.COPULA
_GIVES_BACK = Cue.BREAK | Cue.COMMA
_SAME_PLACE_END = Cue.CONJUNCTION | Cue.BREAK | Cue.COPULA


class Place:
    """A place named in a sentence, at mark ``index``; ``after_preposition``: "in the left base"."""

    __slots__ = ("after_preposition", "index", "key", "projected", "region", "side")

    def __init__(self, index: int, key: str, region: str, side: Laterality | None, after_preposition: bool) -> None:
        self.index, self.key, self.region, self.side = index, key, region, side
        self.after_preposition = after_preposition
        self.projected = False  # "overlying the rib"


@cache
def regions_above(region: str) -> frozenset[str]:
    return frozenset(item.key for item in anatomy.ancestors(region))


def read_places(marks: list[Mark], lexicon: Lexicon) -> tuple[list[Place], dict[int, Laterality]]:
    """Places in order, with neighbours that name one place merged, and sides directly beside a finding."""
    places: list[Place] = []
    sides: dict[int, Laterality] = {}  # mark index of a concept -> side
    side: Laterality | None = None
    side_at = -99
    preposition_at = projection_at = -99
    sides_follow = lexicon.sides_follow
    for i, mark in enumerate(marks):
        if mark.cue & _PREPOSITION:
            preposition_at = mark.last
            projection_at = mark.last if mark.cue & _PROJECTION else -99
        elif sides_follow and mark.cue & _COMMA and places and marks[places[-1].index].first > preposition_at:
            preposition_at = -99  # "in beiden Oberlappen, perihiläre Konsolidierung"
        if mark.side is not None:
            if sides_follow and _follows(i, marks, side, places, sides):
                continue
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
            elif mark.both:
                own = Laterality.BILATERAL
            near_preposition = mark.first - preposition_at <= _REACH + 1
            last = places[-1] if places else None
            if (
                last is not None
                and (own is None or last.side is None or own is last.side)
                and mark.first - marks[last.index].last <= _REACH + 1
                and _same_place(last, region, marks, i)
            ):
                _merge(last, i, mark.place, region, own)
                continue
            place = Place(i, mark.place, region, own, near_preposition)
            place.projected = mark.first - projection_at <= _REACH + 1
            places.append(place)
        elif mark.concept is not None and side is not None:
            if mark.first - side_at <= _REACH:
                sides[i] = side
                side = None
        elif side is not None and mark.cue & _GIVES_BACK:
            _give_back(side, side_at, places, sides, marks, i)
            side = None
    _give_back(side, side_at, places, sides, marks, len(marks))
    return places, sides


def _follows(
    i: int, marks: list[Mark], pending: Laterality | None, places: list[Place], sides: dict[int, Laterality]
) -> bool:
    """Whether a side belongs to what stands right before it: "Erguss rechts und Atelektase links"; it then gets it."""
    mark, before = marks[i], marks[i - 1] if i else None
    if before is None or pending is not None or mark.first - before.last > _NEXT_TO or mark.place or before.side:
        return False
    after = marks[i + 1] if i + 1 < len(marks) else None
    if after is not None and after.place is not None and after.first - mark.last <= 1:
        return False  # "Erguss rechts basal"
    if before.place is not None:
        place = places[-1] if places and places[-1].index == i - 1 else None
        if place is None or place.side is not None:
            return False
        place.side = mark.side
        return True
    if before.concept is not None and i - 1 not in sides and mark.side is not None:
        sides[i - 1] = mark.side
        return True
    return False


def _give_back(
    side: Laterality | None,
    side_at: int,
    places: list[Place],
    sides: dict[int, Laterality],
    marks: list[Mark],
    before: int,
) -> None:
    """A side with nothing after it belongs to what comes before it: "effusion on the left"."""
    if side is None:
        return
    for j in range(before - 1, -1, -1):
        mark = marks[j]
        if mark.last >= side_at:
            continue
        if mark.cue & _BREAK:
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
    """Whether two mentions are one place, as "right lung, lower lobe" and "upper lobe of the left lung" are."""
    between = marks[last.index + 1 : i]
    if any(mark.concept or mark.cue & _SAME_PLACE_END for mark in between):
        return False
    return region == last.region or last.region in regions_above(region) or region in regions_above(last.region)


def _merge(last: Place, i: int, key: str, region: str, side: Laterality | None) -> None:
    """Merge into the more specific of the two places, with the side of either."""
    last.side = last.side or side or _own_side(region) or _own_side(last.region)
    if len(regions_above(region)) >= len(regions_above(last.region)):
        last.index, last.key, last.region = i, key, region


@cache
def _own_side(region: str) -> Laterality | None:
    code = anatomy.region(region).laterality
    if code is None:
        return None
    return {"7771000": Laterality.LEFT, "24028007": Laterality.RIGHT}.get(code.value)


def resolve(region: str, side: Laterality | None, lexicon: Lexicon) -> tuple[tuple[str, ...], Laterality | None]:
    """Region keys for a place and a side, and their laterality; both sides become both regions."""
    own = _own_side(region)
    if side is None and region in lexicon.paired:
        side = Laterality.BILATERAL
    if side is None or own is not None:
        return (region,), own
    if side is Laterality.BILATERAL:
        both = [lexicon.sided.get((region, part)) for part in (Laterality.LEFT, Laterality.RIGHT)]
        return (tuple(key for key in both if key) or (region,)), side
    return (lexicon.sided.get((region, side), region),), side


def places_of(at: int, concept: Concept, marks: list[Mark], by_index: dict[int, Place]) -> list[Place]:
    """The places that belong to the finding at mark ``at``, among those where such a finding may be."""
    if not by_index:
        return []
    modifiers = _modifiers(at, concept, marks, by_index)
    after = _after(at, concept, marks, by_index)
    if modifiers:
        named = {place.region for place in modifiers}
        after = [place for place in after if place.after_preposition and place.region not in named]
    found = modifiers + after
    return [place for place in found if not place.projected] or found


def _allowed(place: Place, concept: Concept) -> bool:
    return (
        not concept.within
        or place.region in concept.within
        or place.region in concept.elsewhere
        or place.key in concept.reads
    )


def _modifiers(at: int, concept: Concept, marks: list[Mark], by_index: dict[int, Place]) -> list[Place]:
    """Places in the finding's noun phrase: "right basilar and lingular opacity"."""
    found: list[Place] = []
    settled = 0  # places on this side of the last "and"
    for j in range(at - 1, -1, -1):
        mark = marks[j]
        cue = mark.cue
        if j in by_index:
            if _allowed(by_index[j], concept):
                found.append(by_index[j])
        elif mark.concept is not None or cue & _PHRASE_END:
            break
        elif cue & _CONJUNCTION:
            settled = len(found)
        elif cue & _PREPOSITION and found:
            clause = next((k for k in range(j - 1, -1, -1) if marks[k].cue & _BREAK), 0)
            if any(other.concept for other in marks[clause:j]):
                found = found[:settled]  # "scarring in the left base and right apical opacity"
            break
    found.reverse()
    return found


def _after(at: int, concept: Concept, marks: list[Mark], by_index: dict[int, Place]) -> list[Place]:
    """Places after a finding, up to the next statement: "opacity in the left base and lingula"."""
    found: list[Place] = []
    for j in range(at + 1, len(marks)):
        mark = marks[j]
        if mark.cue & _CLAUSE_END:
            break
        if j in by_index:
            place = by_index[j]
            modifies_next = (
                j + 1 < len(marks) and marks[j + 1].concept is not None and marks[j + 1].first - mark.last <= 2
            )
            if modifies_next and not place.after_preposition:
                break  # "... and right apical scarring": the next finding's modifier
            if _allowed(place, concept) and (place.after_preposition or found or _describes(at, j, marks)):
                found.append(place)
        elif mark.concept is not None:
            adjoins = mark.first - marks[j - 1].last <= 1  # "granulomatous nodule in ..."
            if found or not (adjoins or any(m.cue & _LINK for m in marks[at + 1 : j])):
                break
    return found


def _describes(at: int, j: int, marks: list[Mark]) -> bool:
    """Whether a place is beside its finding: "opacity right base", or at the end: "nodule, 5 mm, right apex"."""
    between = marks[at + 1 : j]
    for m in between:
        if not (m.side or m.change or m.cue & _COPULA):
            break
    else:
        return True
    for a, b in pairwise(marks[at : j + 1]):
        if b.first - a.last > _NEXT_TO:
            return False
    if any(m.cue & _COMMA for m in between) and any(m.concept or m.attribute for m in marks[j + 1 :]):
        return False
    return all(m.side or m.change or m.entry.severity or m.size_mm is not None or m.cue & _QUIET for m in between)


def side_beside(at: int, marks: list[Mark], places: list[Place]) -> Laterality | None:
    """The side of a place after a finding that cannot be there: "pneumothorax: left apical" is in the left pleura."""
    place = next((place for place in places if place.index > at), None)
    if place is None:
        return None
    between = marks[at + 1 : place.index]
    led_to = place.after_preposition and not any(mark.concept or mark.cue & _STATEMENT_END for mark in between)
    if not led_to and not _describes(at, place.index, marks):
        return None
    return place.side or _own_side(place.region)


def side_before(
    at: int, concept: Concept, marks: list[Mark], places: list[Place], lexicon: Lexicon
) -> Laterality | None:
    """The side of a place right before a finding that cannot be there: "left basilar effusion" is in the left pleura.

    Not of a device, which may be led from there ("left subclavian pacemaker").
    """
    place = next((place for place in reversed(places) if place.index < at), None)
    if place is None or concept.kind is FindingKind.DEVICE or marks[at].first - marks[place.index].last > _NEXT_TO:
        return None
    if any(mark.concept or mark.cue for mark in marks[place.index + 1 : at]):
        return None
    side = place.side or _own_side(place.region)
    return side if side is Laterality.BILATERAL or (side and (concept.at, side) in lexicon.sided) else None


def fronted(at: int, concept: Concept, marks: list[Mark], by_index: dict[int, Place]) -> list[Place]:
    """Places that open the clause: "in the right base there is an opacity", "the left base shows opacity"."""
    found: list[Place] = []
    clause = at
    while clause and not marks[clause - 1].cue & _BREAK:
        clause -= 1
    for j in range(clause, at):
        if j in by_index:
            if _allowed(by_index[j], concept):
                found.append(by_index[j])
        elif marks[j].concept is not None:
            break
    return found
