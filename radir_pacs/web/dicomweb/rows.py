"""The attributes of every series and instance row (PS3.18 tables 10.6.3-4, 10.6.3-5), and the level of an attribute."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword

from radir_pacs.catalogue.qido import QidoLevel, QidoRow

from .json_model import Attributes, element

_FROM_SERIES_HEADER = ("00080201", "00400244", "00400245", "00400275")  # time zone, procedure step start, request
_FROM_INSTANCE_HEADER = ("00080201", "00280100")  # time zone, bits allocated
FROM_HEADER = frozenset((*_FROM_SERIES_HEADER, *_FROM_INSTANCE_HEADER))  # what rows always take from the stored header

# Attributes of the patient and study modules (PS3.3 C.7.1, C.7.2): what a study's row may contain.
_STUDY_KEYWORDS = """
SpecificCharacterSet TimezoneOffsetFromUTC StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence
StudyInstanceUID StudyID StudyDescription ReferringPhysicianName ReferringPhysicianIdentificationSequence
ConsultingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy RequestingService
ReferencedStudySequence ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence PatientName PatientID
IssuerOfPatientID IssuerOfPatientIDQualifiersSequence OtherPatientIDs OtherPatientIDsSequence OtherPatientNames
PatientBirthDate PatientBirthTime PatientSex PatientAge PatientSize PatientWeight PatientBodyMassIndex
EthnicGroup PatientComments ReferencedPatientSequence PatientSpeciesDescription PatientIdentityRemoved
DeidentificationMethod DeidentificationMethodCodeSequence AdmittingDiagnosesDescription
AdmittingDiagnosesCodeSequence MedicalAlerts Allergies SmokingStatus PregnancyStatus Occupation
AdditionalPatientHistory PatientSexNeutered ResponsiblePerson ResponsibleOrganization InstitutionName
InstitutionalDepartmentName LongitudinalTemporalInformationModified
"""
# Of the series, equipment and frame of reference modules (PS3.3 C.7.3 to C.7.5).
_SERIES_KEYWORDS = """
SeriesInstanceUID Modality SeriesNumber SeriesDescription SeriesDescriptionCodeSequence SeriesDate SeriesTime
Laterality BodyPartExamined PatientPosition ProtocolName PerformingPhysicianName OperatorsName
PerformedProcedureStepID PerformedProcedureStepDescription PerformedProcedureStepStartDate
PerformedProcedureStepStartTime PerformedProtocolCodeSequence RequestAttributesSequence
ReferencedPerformedProcedureStepSequence SmallestPixelValueInSeries LargestPixelValueInSeries
AnatomicalOrientationType Manufacturer ManufacturerModelName DeviceSerialNumber SoftwareVersions StationName
FrameOfReferenceUID PositionReferenceIndicator SynchronizationFrameOfReferenceUID
"""


def _tags(keywords: str) -> frozenset[str]:
    found = (tag_for_keyword(keyword) for keyword in keywords.split())
    return frozenset(f"{tag:08X}" for tag in found if tag is not None)


_STUDY_TAGS, _SERIES_TAGS = _tags(_STUDY_KEYWORDS), _tags(_SERIES_KEYWORDS)


def level_of_tag(tag: str) -> QidoLevel:
    """The highest level at which all instances below share the attribute."""
    if tag in _STUDY_TAGS:
        return QidoLevel.STUDY
    return QidoLevel.SERIES if tag in _SERIES_TAGS else QidoLevel.INSTANCE


def series_attributes(row: QidoRow, base_url: str) -> Attributes:
    series = row.series
    assert series is not None
    always = {
        "00080005": element("CS", "ISO_IR 192"),
        "00080056": element("CS", "ONLINE"),
        "00080060": element("CS", series.modality),
        "0008103E": element("LO", series.series_description),
        "00081190": element("UR", f"{base_url}/studies/{row.study.study_uid}/series/{series.series_uid}"),
        "0020000D": element("UI", row.study.study_uid),
        "0020000E": element("UI", series.series_uid),
        "00200011": element("IS", series.series_number),
        "00201209": element("IS", series.instance_count),
    }
    return {tag: row.attributes[tag] for tag in _FROM_SERIES_HEADER if tag in row.attributes} | always


def instance_attributes(row: QidoRow, base_url: str) -> Attributes:
    series, instance = row.series, row.instance
    assert series is not None and instance is not None
    above = f"{base_url}/studies/{row.study.study_uid}/series/{series.series_uid}"
    always = {
        "00080005": element("CS", "ISO_IR 192"),
        "00080016": element("UI", instance.sop_class_uid),
        "00080018": element("UI", instance.sop_uid),
        "00080056": element("CS", "ONLINE"),
        "00081190": element("UR", f"{above}/instances/{instance.sop_uid}"),
        "0020000D": element("UI", row.study.study_uid),
        "0020000E": element("UI", series.series_uid),
        "00200013": element("IS", instance.instance_number),
    }
    if instance.rows_px is not None and instance.columns_px is not None:
        always["00280008"] = element("IS", instance.frames)
        always["00280010"] = element("US", instance.rows_px)
        always["00280011"] = element("US", instance.columns_px)
    return {tag: row.attributes[tag] for tag in _FROM_INSTANCE_HEADER if tag in row.attributes} | always
