"""The attributes of a study that an answer shows: one description, from which columns, QIDO keys and rows follow.

A new one is a line here, a field of `CatalogueStudy` and of `InstanceHeader`, a column of the tables ``study`` and
``study_search`` with the triggers between them and ``study_changed_on_update`` (schema and migration), its places in
the statements ``receive`` and ``headers_of``, and its reading in `radir_pacs.dicom.header`;
tests/unit/test_study_attributes.py names the place that was forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StudyAttribute:
    """``name``: the field of `CatalogueStudy` and the column of the table ``study``; the rest: DICOM's (PS3.6).

    It stands here because each process of the stack needs it, and some need nothing else of pydicom, which takes half a
    second of processor time to import.
    """

    name: str
    tag: str  # eight upper-case hex digits, as in the DICOM JSON model
    vr: str
    keyword: str
    counted: bool = False  # counted on request, not a column


STUDY_ATTRIBUTES = (
    StudyAttribute(name="study_date", tag="00080020", vr="DA", keyword="StudyDate"),
    StudyAttribute(name="study_time", tag="00080030", vr="TM", keyword="StudyTime"),
    StudyAttribute(name="accession_number", tag="00080050", vr="SH", keyword="AccessionNumber"),
    StudyAttribute(name="modalities", tag="00080061", vr="CS", keyword="ModalitiesInStudy"),
    StudyAttribute(name="referring_physician", tag="00080090", vr="PN", keyword="ReferringPhysicianName"),
    StudyAttribute(name="study_description", tag="00081030", vr="LO", keyword="StudyDescription"),
    StudyAttribute(name="patient_name", tag="00100010", vr="PN", keyword="PatientName"),
    StudyAttribute(name="patient_id", tag="00100020", vr="LO", keyword="PatientID"),
    StudyAttribute(name="patient_birth_date", tag="00100030", vr="DA", keyword="PatientBirthDate"),
    StudyAttribute(name="patient_sex", tag="00100040", vr="CS", keyword="PatientSex"),
    StudyAttribute(name="study_uid", tag="0020000D", vr="UI", keyword="StudyInstanceUID"),
    StudyAttribute(name="study_id", tag="00200010", vr="SH", keyword="StudyID"),
    StudyAttribute(name="series_count", tag="00201206", vr="IS", keyword="NumberOfStudyRelatedSeries", counted=True),
    StudyAttribute(
        name="instance_count", tag="00201208", vr="IS", keyword="NumberOfStudyRelatedInstances", counted=True
    ),
)
COUNTED = frozenset(attribute.name for attribute in STUDY_ATTRIBUTES if attribute.counted)
