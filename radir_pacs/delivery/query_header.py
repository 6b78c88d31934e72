"""What a report takes over from the header of the query image: bounded, and valid whatever the header holds."""

from __future__ import annotations

import math
import re
from datetime import datetime

from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput

# Type 2 attributes of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): empty when unknown.
_REQUIRED = {
    "PatientName": "PN",
    "PatientID": "LO",
    "PatientBirthDate": "DA",
    "PatientSex": "CS",
    "StudyDate": "DA",
    "StudyTime": "TM",
    "AccessionNumber": "SH",
    "StudyID": "SH",
    "ReferringPhysicianName": "PN",
}
_OPTIONAL = {"TimezoneOffsetFromUTC": "SH", "IssuerOfPatientID": "LO", "StudyDescription": "LO", "PatientAge": "AS"}
_FORMS = {
    "TimezoneOffsetFromUTC": re.compile(r"[+-](0\d|1[0-4])[0-5]\d"),
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"\d{2}([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[MFO]"),  # Patient's Sex is the only one
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def text(ds: Dataset, keyword: str) -> str:
    """The attribute's first value as one clean line of text; "" when it is absent."""
    found = ds.get(keyword)
    if isinstance(found, (list, MultiValue)):
        found = next((value for value in found if value), "")
    return _CONTROL.sub("", str(found or "")).strip()


def numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly ``count`` finite numbers, or None."""
    value = ds.get(keyword)
    if value is None or isinstance(value, str):
        return None
    try:
        found = tuple(float(part) for part in (value if hasattr(value, "__iter__") else [value]))
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(math.isfinite(number) for number in found) else None


def uid(ds: Dataset, keyword: str) -> str:
    """A valid UID; BadInput without one."""
    found = str(ds.get(keyword) or "")
    if not is_valid_uid(found):
        raise BadInput(f"the header of the query image has no valid {keyword}")
    return found


def anonymous_evidence(query_image: Dataset) -> Dataset:
    """The query image as evidence with its patient left blank.

    highdicom logs a patient name it finds odd; so the patient is filled in afterwards, by ``fill_in_patient``.
    """
    evidence = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(evidence, keyword, uid(query_image, keyword))
    for keyword in _REQUIRED:
        setattr(evidence, keyword, "")
    return evidence


def fill_in_patient(document: Dataset, query_image: Dataset) -> None:
    """Copy patient and study from the query image; a malformed date, time, age or sex becomes empty or absent.

    Identifiers and names are copied unchanged: a corrected one could name somebody else.
    """
    for keyword, vr in {**_REQUIRED, **_OPTIONAL}.items():
        value = text(query_image, keyword)
        form = _FORMS.get(keyword) or _FORMS.get(vr)
        if form is not None and (not form.fullmatch(value) or (vr == "DA" and not _is_date(value))):
            value = ""
        if value or keyword in _REQUIRED:
            tag = tag_for_keyword(keyword)
            assert tag is not None
            # Unchecked, since pydicom's warnings repeat the value.
            document.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))


def _is_date(value: str) -> bool:
    try:
        datetime.strptime(value, "%Y%m%d")
    except ValueError:
        return False
    return True
