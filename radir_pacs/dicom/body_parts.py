"""Whether a header describes the chest, in the words that technicians use."""

from __future__ import annotations

import re
from enum import Enum

from radir_pacs.dicom.json_model import text
from radir_pacs.types import InstanceHeader


class BodyPart(Enum):
    CHEST = "chest"
    UNKNOWN = "unknown"
    OTHER = "other"


_SPINE = re.compile(r"\b(thora\w*|dorsal|[tdclb])[\s_-]*(spine|ws\b|wervel\w*)|columna|wirbels", re.IGNORECASE)
_CHEST = re.compile(
    r"chest|thora|t[oó]rax|toraks|lung|poumon|pulm|polmon|mediast|\bcxr|\bthx\b|\bhrct|ctpa|\brib|rippen"
    r"|\b(cap|tap)\b|trunk|(whole|total)\s*b(ody)?\b",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"\b(head|brain|skull|cran|neck|sinus|orbit|face|facial|abd|pelvis|pelvic|bacino|hip|knee|ankle|foot|feet|toe"
    r"|hand|wrist|finger|thumb|elbow|shoulder|humer|femur|thigh|tibia|fibula|leg\b|arm\b|forearm|extremit|spine"
    r"|sacr|coccyx|breast|mammo|dental|teeth|jaw|mandib|prostate|kidney|renal|pancreas|liver|uter|bladder"
    r"|schaedel|schädel|becken|knie|hand|fuss)|[cl]spine|[cl]-spine",
    re.IGNORECASE,
)


def body_part_of(header: InstanceHeader) -> BodyPart:
    """Chest, other or unknown: decided by the series first, then by the study.

    A series that names another part within a study that names the chest is unknown: scanners are often left on the
    last patient's body part.
    """
    series = _verdict(f"{header.body_part or ''} {_words(header, 'SeriesDescription', 'ProtocolName')}")
    study = _verdict(_words(header, "StudyDescription", "RequestedProcedureDescription"))
    if series is BodyPart.UNKNOWN:
        return study
    if series is BodyPart.OTHER and study is BodyPart.CHEST:
        return BodyPart.UNKNOWN
    return series


def _words(header: InstanceHeader, *keywords: str) -> str:
    return " ".join(text(header.attributes, keyword) for keyword in keywords).replace("_", " ")


def _verdict(words: str) -> BodyPart:
    without_spine = _SPINE.sub(" ", words)
    if _CHEST.search(without_spine):
        return BodyPart.CHEST
    if without_spine != words or _OTHER.search(words):
        return BodyPart.OTHER
    return BodyPart.UNKNOWN
