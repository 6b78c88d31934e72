"""From which side a chest was taken: the view of a radiograph, from whatever its header offers."""

from __future__ import annotations

import re

from radir_pacs.dicom.json_model import text, values
from radir_pacs.types import InstanceHeader, View

# CID 4010 "DX View", SNOMED CT. Obliques are neither.
_FRONTAL_CODES = {"399033003", "399348003", "272479007", "R-10202", "R-10206", "R-10214"}
_LATERAL_CODES = {"399067008", "399173006", "399198007", "30730003", "R-10228", "R-10232", "R-10236"}
_FRONTAL_POSITIONS = {"AP", "PA", "LLD", "RLD"}  # decubitus views are taken along the frontal axis
_LATERAL_POSITIONS = {"LL", "RL"}
_OBLIQUE_POSITIONS = {"LLO", "RLO"}
_LATERAL_WORDS = re.compile(r"\b(lat|lateral|laterale|seitlich|profil|profile|ll|rl|lao|rao)\b", re.IGNORECASE)
_FRONTAL_WORDS = re.compile(
    r"\b(pa|ap|p\.a\.?|a\.p\.?|frontal|supine|erect|portable|bedside|decubitus"
    r"|postero-?anterior|antero-?posterior)(?=\W|\d|$)",
    re.IGNORECASE,
)


def view_of(header: InstanceHeader) -> View | None:
    """The view, or None when the header does not tell or tells of an oblique.

    Asked in the order of trust: View Code Sequence, View Position, Patient Orientation (PS3.3 C.7.6.1.1.1), then words
    of the descriptions.
    """
    attributes = header.attributes
    codes = values(attributes, "ViewCodeSequence")
    code = text(codes[0], "CodeValue") if codes else ""
    position = text(attributes, "ViewPosition").upper()
    if code in _FRONTAL_CODES or position in _FRONTAL_POSITIONS:
        return View.FRONTAL
    if code in _LATERAL_CODES or position in _LATERAL_POSITIONS:
        return View.LATERAL
    if code or position in _OBLIQUE_POSITIONS:
        return None
    across = {str(letters)[:1] for letters in values(attributes, "PatientOrientation") if letters} - {"H", "F"}
    if across:
        return View.FRONTAL if across <= {"L", "R"} else View.LATERAL if across <= {"A", "P"} else None
    words = " ".join(
        (position, header.series_description or "", header.study_description or "", text(attributes, "ProtocolName"))
    )
    frontal, lateral = _FRONTAL_WORDS.search(words), _LATERAL_WORDS.search(words)
    if frontal and not lateral:
        return View.FRONTAL
    if lateral and not frontal:
        return View.LATERAL
    return None
