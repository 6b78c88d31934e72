"""What a person types, "consolidation left lower lobe", read as a region and perhaps a finding."""

from __future__ import annotations

import re
from dataclasses import dataclass

from radir_pacs import anatomy
from radir_pacs.errors import UnknownRegion
from radir_pacs.reports.findings import FindingKind
from radir_pacs.reports.mining import mine
from radir_pacs.types import ImageKind, Region

TYPED_CHARACTERS = 200
_WORDS = 12


@dataclass(frozen=True, kw_only=True)
class Typed:
    """The region, and the concept asked for there: present, or denied (``present`` False). None: none was named."""

    region: Region
    concept: str | None = None
    present: bool = True


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


def _longest_place(text: str, kind: ImageKind | None) -> Region | None:
    """The region that most neighbouring words of ``text`` name together."""
    words = re.findall(r"[\w-]+", text)[:_WORDS]
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            try:
                return anatomy.look_up(" ".join(words[start : start + length]), kind)
            except UnknownRegion:
                continue
    return None
