"""The attributes of a study that an answer shows: one description, from which columns, QIDO keys and rows follow.

A new one is a line here, a field of `CatalogueStudy` and of `InstanceHeader`, a column of the tables ``study`` and
``study_search`` with the triggers between them (schema and migration), its places in the statements ``receive_study``
and ``headers_of``, and its reading in `radir_pacs.dicom.header`;
tests/unit/test_study_attributes.py names the place that was forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pydicom.datadict import dictionary_VR, tag_for_keyword


@dataclass(frozen=True, kw_only=True)
class StudyAttribute:
    """``name``: the field of `CatalogueStudy` and the column of the table ``study``; ``keyword``: DICOM's (PS3.6)."""

    name: str
    keyword: str
    counted: bool = False  # counted on request, not a column

    @cached_property
    def tag(self) -> str:
        """Eight upper-case hex digits, as in the DICOM JSON model."""
        tag = tag_for_keyword(self.keyword)
        assert tag is not None
        return f"{tag:08X}"

    @cached_property
    def vr(self) -> str:
        return dictionary_VR(int(self.tag, 16))


STUDY_ATTRIBUTES = (
    StudyAttribute(name="study_date", keyword="StudyDate"),
    StudyAttribute(name="study_time", keyword="StudyTime"),
    StudyAttribute(name="accession_number", keyword="AccessionNumber"),
    StudyAttribute(name="modalities", keyword="ModalitiesInStudy"),
    StudyAttribute(name="referring_physician", keyword="ReferringPhysicianName"),
    StudyAttribute(name="study_description", keyword="StudyDescription"),
    StudyAttribute(name="patient_name", keyword="PatientName"),
    StudyAttribute(name="patient_id", keyword="PatientID"),
    StudyAttribute(name="patient_birth_date", keyword="PatientBirthDate"),
    StudyAttribute(name="patient_sex", keyword="PatientSex"),
    StudyAttribute(name="study_uid", keyword="StudyInstanceUID"),
    StudyAttribute(name="study_id", keyword="StudyID"),
    StudyAttribute(name="series_count", keyword="NumberOfStudyRelatedSeries", counted=True),
    StudyAttribute(name="instance_count", keyword="NumberOfStudyRelatedInstances", counted=True),
)
COUNTED = frozenset(attribute.name for attribute in STUDY_ATTRIBUTES if attribute.counted)
