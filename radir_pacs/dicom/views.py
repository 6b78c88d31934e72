"""The view of a chest radiograph, from whatever its header states."""

from __future__ import annotations

import re

from radir_pacs.dicom.json_model import Readable, text, values
from radir_pacs.types import View

# CID 4010 "DX View", SNOMED CT. Oblique views are in neither list.
_FRONTAL_CODES = {"399033003", "399348003", "272479007", "R-10202", "R-10206", "R-10214"}
_LATERAL_CODES = {"399067008", "399173006", "399198007", "30730003", "R-10228", "R-10232", "R-10236"}
_FRONTAL_POSITIONS = {"AP", "PA", "LLD", "RLD"}  # decubitus views are taken along the frontal axis
_LATERAL_POSITIONS = {"LL", "RL"}
_OBLIQUE_POSITIONS = {"LLO", "RLO", "LAO", "RAO", "LPO", "RPO"}
_LATERAL_WORDS = re.compile(r"\b(lat|lateral|laterale|seitlich|profil|profile|ll|rl|lao|rao)\b", re.IGNORECASE)
_FRONTAL_WORDS = re.compile(
    r"\b(pa|ap|p\.a\.?|a\.p\.?|frontal|supine|erect|portable|bedside|decubitus"
    r"|postero-?anterior|antero-?posterior)(?=\W|\d|$)",
    re.IGNORECASE,
)


def view_of(attributes: Readable) -> View | None:
    """The view; None when the header does not state it, or says that it is oblique.

    Sources, most trusted first: View Code Sequence, View Position, Patient Orientation (PS3.3 C.7.6.1.1.1), then words
    of the descriptions.
    """
    code, position = _code(attributes), text(attributes, "ViewPosition").upper()
    stated = view_of_position(position)
    if code in _FRONTAL_CODES or stated is View.FRONTAL:
        return View.FRONTAL
    if code in _LATERAL_CODES or stated is View.LATERAL:
        return View.LATERAL
    if code or position in _OBLIQUE_POSITIONS:
        return None
    across = _across(attributes)
    if across:
        return View.FRONTAL if across <= {"L", "R"} else View.LATERAL if across <= {"A", "P"} else None
    described = ("SeriesDescription", "StudyDescription", "ProtocolName")
    words = " ".join((position, *(text(attributes, keyword) for keyword in described)))
    frontal, lateral = _FRONTAL_WORDS.search(words), _LATERAL_WORDS.search(words)
    if frontal and not lateral:
        return View.FRONTAL
    if lateral and not frontal:
        return View.LATERAL
    return None


def view_of_position(position: str) -> View | None:
    """The view that a View Position states (PS3.3 C.8.1.7), in upper case; None for an oblique or unknown one."""
    if position in _FRONTAL_POSITIONS:
        return View.FRONTAL
    return View.LATERAL if position in _LATERAL_POSITIONS else None


def may_be_frontal(attributes: Readable) -> bool:
    """Whether outlines for a frontal view may be shown: the view is frontal, or nothing says that it is not."""
    view = view_of(attributes)
    oblique = bool(_code(attributes)) or text(attributes, "ViewPosition").upper() in _OBLIQUE_POSITIONS
    return _across(attributes) <= {"L", "R"} and (view is View.FRONTAL or (view is None and not oblique))


def _code(attributes: Readable) -> str:
    codes = values(attributes, "ViewCodeSequence")
    return text(codes[0], "CodeValue") if codes else ""


def _across(attributes: Readable) -> set[str]:
    """The directions of Patient Orientation that do not run along the body."""
    return {str(letters)[:1].upper() for letters in values(attributes, "PatientOrientation") if letters} - {"H", "F"}
