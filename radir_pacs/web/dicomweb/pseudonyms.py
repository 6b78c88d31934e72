"""Rows of studies that do not tell who a patient is: a pseudonym stands for the id; what names a person is gone.

Names, ids and birth dates are attributes that Annex E of PS3.15 removes; the day of the study, age and sex stay, since
one searches by them. The Study Instance UID stays: whoever may ask about a study must be able to name it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.datadict import keyword_for_tag

from radir_pacs.access.references import pseudonym
from radir_pacs.config import Settings
from radir_pacs.delivery.dicom_json import PRIVATE_GROUP
from radir_pacs.errors import BadInput
from radir_pacs.similar_cases import Match
from radir_pacs.types import CatalogueStudy

from .json_model import Attributes, ascending, element

_PATIENT_ID = "00100020"
# Character set, study date and time, availability, modality, modalities in study, retrieve URL, sex, age, body part,
# Study Instance UID, related series and instances.
_KEPT = frozenset(
    {
        *("00080005", "00080020", "00080030", "00080056", "00080060", "00080061", "00081190", "00100040"),
        *("00101010", "00180015", "0020000D", "00201206", "00201208"),
    }
)
_SEARCHED = frozenset({"00080020", "00080060", "00080061", "00100040", "00101010", "00180015", "0020000D"})


def of_study(study: CatalogueStudy, row: Attributes, settings: Settings) -> Attributes:
    """The row of a study, with what tells of the image and the answer alone."""
    kept = {tag: value for tag, value in row.items() if tag in _KEPT or tag.startswith(PRIVATE_GROUP)}
    named = pseudonym(study.patient_key, settings) if study.patient_key else None
    return ascending(kept | {_PATIENT_ID: element("LO", named)})


def require_no_person(matches: Sequence[Match]) -> None:
    """Raise BadInput for a key by which a person could be looked for."""
    for match in matches:
        if len(match.path) != 1 or match.path[0] not in _SEARCHED:
            name = keyword_for_tag(int(match.path[-1], 16)) or match.path[-1]
            raise BadInput(f"{name} may tell who a patient is: this token cannot search by it")
