"""What whoever reads an encoding should know of its image: codes with values, worded where somebody reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ImageNoteCode(StrEnum):
    """Each with the values that an ``ImageNote`` carries for it."""

    BODY_PART_UNKNOWN = "body_part_unknown"  # taken for a chest
    ONLY_LATERAL = "only_lateral"
    NO_SIDES = "no_sides"  # of a lateral view, regions of one side are left out
    VIEW_UNKNOWN = "view_unknown"
    LUT_SHAPE_FOLLOWED = "lut_shape_followed"  # Presentation LUT Shape against Photometric Interpretation
    PHOTOMETRIC_FOLLOWED = "photometric_followed"  # the other of the two was followed
    WINDOW_REPLACED = "window_replaced"
    SPACING_ASSUMED = "spacing_assumed"  # field_mm
    SHORT_SERIES = "short_series"  # covered_mm
    STRAY_SLICES = "stray_slices"  # count
    SEVERAL_PHASES = "several_phases"  # count
    SAME_POSITION = "same_position"  # count
    GAPS_FILLED = "gaps_filled"  # count, widest_mm
    UNEVEN_SPACING = "uneven_spacing"
    THINNED = "thinned"  # every
    TILTED = "tilted"  # degrees
    NOT_AXIAL = "not_axial"
    EARLIER = "earlier"  # text: the sentence that an earlier release kept


@dataclass(frozen=True, kw_only=True)
class ImageNote:
    """One note. It holds numbers, not words."""

    code: ImageNoteCode
    values: Mapping[str, float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As the catalogue keeps it; `read` gives the note again."""
        return json.dumps({"code": self.code, **self.values}, sort_keys=True)

    @staticmethod
    def read(text: str) -> ImageNote:
        """The note of which ``text`` is the form in the catalogue; any other text is one of an earlier release."""
        try:
            values = json.loads(text)
            return ImageNote(code=ImageNoteCode(values.pop("code")), values=values)
        except (ValueError, KeyError, AttributeError, TypeError):
            return ImageNote(code=ImageNoteCode.EARLIER, values={"text": text})


def image_note(code: ImageNoteCode, **values: float) -> ImageNote:
    return ImageNote(code=code, values=values)
