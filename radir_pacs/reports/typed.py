"""What a person types, "consolidation left lower lobe", read as a region and perhaps a finding."""

from __future__ import annotations

import re
from dataclasses import dataclass

from radir_pacs import anatomy
from radir_pacs.errors import BadInput, UnknownRegion
from radir_pacs.reports.findings import FindingKind
from radir_pacs.reports.mining import mine
from radir_pacs.similar_cases import Notice, NoticeCode, WeightedRegion
from radir_pacs.types import ImageKind, Region

TYPED_CHARACTERS = 200
MOST_REGIONS = 8  # of one question
_WORDS = 12
_SIDES = ("left", "right", "bilateral", "upper", "lower", "middle")


@dataclass(frozen=True, kw_only=True)
class Typed:
    """The region, and the concept asked for there (None: none was named): affirmed, or denied (``present`` False)."""

    region: Region
    concept: str | None = None
    present: bool = True

    @property
    def notice(self) -> Notice | None:
        """How the reader's words were understood, where they have to know it; None when they named only a region."""
        if self.concept is None:
            return None
        code = NoticeCode.FINDING_FILTERS if self.present else NoticeCode.FINDING_DENIED
        return Notice(code=code, values={"finding": self.concept, "region": self.region.key})

    @property
    def affirmed(self) -> str | None:
        """The concept that a case's report has to affirm. A denied one filters nothing: few reports state denials."""
        return self.concept if self.present else None


def read_typed(text: str, kind: ImageKind | None = None) -> Typed:
    """Raises UnknownRegion, with the nearest names, when the text names neither a place nor a finding."""
    text = text[:TYPED_CHARACTERS]
    named = _longest_place(text, kind)
    found = next((f for f in mine(text, kind).findings if f.kind is not FindingKind.NORMAL), None)
    if named is None and found is None:
        raise UnknownRegion(text, anatomy.nearest(text, kind))
    if found is None:
        assert named is not None
        return Typed(region=named)
    places = [anatomy.region(key) for key in found.regions]
    fitting = [place for place in places if kind is None or kind in place.kinds]
    region = named or (fitting or [anatomy.region(anatomy.ROOT)])[0]
    return Typed(region=region, concept=found.concept, present=found.polarity == "present")


def read_question(text: str, kind: ImageKind | None = None) -> Typed:
    """A region by any of its names, else a finding and its region ("RUL consolidation").

    Stricter than ``read_typed``: a text that is not a region's name is read only when it names a finding, so that
    "left lowr lobe" raises UnknownRegion with the nearest names and is not answered for the whole chest.
    """
    try:
        return Typed(region=anatomy.look_up(text, kind))
    except UnknownRegion:
        try:
            read = read_typed(text, kind)
        except UnknownRegion:
            read = None
        if read is None or read.concept is None or _slips(text):
            raise
        return read


def several(text: str, name: str) -> list[tuple[str, float]]:
    """``left pleura:2, heart``: the words of each region, and its weight. ``name``: what ``text`` is called where it is
    refused. Raises BadInput."""
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    if not pieces:
        raise BadInput(f"{name} names no region")
    if len(pieces) > MOST_REGIONS:
        raise BadInput(f"{name} names more than {MOST_REGIONS} regions")
    return [_weighed(piece, name) for piece in pieces]


def _weighed(text: str, name: str) -> tuple[str, float]:
    words, _, number = text.partition(":")
    if len(words) > TYPED_CHARACTERS:
        raise BadInput(f"{name} is too long")
    try:
        return words, WeightedRegion(key="", weight=float(number)).weight if number else 1.0
    except ValueError:
        raise BadInput("the weight of a region is a number greater than 0, as in heart:2") from None


def place_named(text: str, kind: ImageKind | None = None) -> Region:
    """The region that the longest run of words in a text names; where none does, the root."""
    return _longest_place(text[:TYPED_CHARACTERS], kind) or anatomy.region(anatomy.ROOT)


def _slips(text: str) -> bool:
    """Whether a word is one typing error away from a side ("rigth"), which would be silently dropped."""
    return any(_is_slip(word, side) for word in re.findall(r"[a-z]+", text.lower()) for side in _SIDES)


def _is_slip(word: str, meant: str) -> bool:
    """Two neighbours swapped, or one letter too many or too few; the first letter is seldom wrong ("bright")."""
    if word[0] != meant[0]:
        return False
    if abs(len(word) - len(meant)) == 1:
        longer, shorter = sorted((word, meant), key=len, reverse=True)
        return any(longer[:at] + longer[at + 1 :] == shorter for at in range(len(longer)))
    exchanged = (meant[:at] + meant[at + 1] + meant[at] + meant[at + 2 :] for at in range(len(meant) - 1))
    return word != meant and word in exchanged


def _longest_place(text: str, kind: ImageKind | None) -> Region | None:
    """The region named by the longest run of neighbouring words in ``text``."""
    words = re.findall(r"[\w-]+", text)[:_WORDS]
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            try:
                return anatomy.look_up(" ".join(words[start : start + length]), kind)
            except UnknownRegion:
                continue
    return None
