"""What was done to make a volume from a CT series: codes with parameters, worded when the volume is returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class CtNoteCode(StrEnum):
    STRAY_SLICES = "STRAY_SLICES"  # count
    SEVERAL_PHASES = "SEVERAL_PHASES"  # count
    SAME_POSITION = "SAME_POSITION"  # count
    GAPS_FILLED = "GAPS_FILLED"  # count, widest_mm
    UNEVEN_SPACING = "UNEVEN_SPACING"
    THINNED = "THINNED"  # every
    TILTED = "TILTED"  # degrees
    NOT_AXIAL = "NOT_AXIAL"


_WORDS: Mapping[CtNoteCode, str] = {
    CtNoteCode.STRAY_SLICES: "left out because of another size, spacing or orientation: {count} of the slices",
    CtNoteCode.SEVERAL_PHASES: "the series holds {count} phases; the first was used",
    CtNoteCode.SAME_POSITION: "left out because of a position already taken: {count} of the slices",
    CtNoteCode.GAPS_FILLED: "missing slices, about {count}, were interpolated; the widest gap is {widest_mm:.1f} mm",
    CtNoteCode.UNEVEN_SPACING: "the slices are unevenly spaced; they were resampled",
    CtNoteCode.THINNED: "one slice in {every} was used",
    CtNoteCode.TILTED: "the gantry was tilted by {degrees:.0f} degrees",
    CtNoteCode.NOT_AXIAL: "the series was not acquired axially",
}


@dataclass(frozen=True, kw_only=True)
class CtNote:
    code: CtNoteCode
    values: Mapping[str, float] = field(default_factory=dict)

    def words(self) -> str:
        return _WORDS[self.code].format(**self.values)


def ct_note(code: CtNoteCode, **values: float) -> CtNote:
    return CtNote(code=code, values=values)
