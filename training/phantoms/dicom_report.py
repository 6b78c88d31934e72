"""Reports as Basic Text SR (PS3.3 A.35.1), laid out as TID 2000."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage

from .dicom_base import Identity, code, new_object, save
from .wording import WrittenReport

# Heading and text concepts of CID 7001 and CID 7002.
_HEADINGS = {
    "INDICATION": (("121060", "History"), ("121060", "History")),
    "TECHNIQUE": (("121064", "Current Procedure Descriptions"), ("121065", "Procedure Description")),
    "COMPARISON": (("121066", "Prior Procedure Descriptions"), ("121065", "Procedure Description")),
    "FINDINGS": (("121070", "Findings"), ("121071", "Finding")),
    "IMPRESSION": (("121072", "Impressions"), ("121073", "Impression")),
}


def write_report_sr(
    identity: Identity, report: WrittenReport, evidence: list[tuple[str, str, str]], folder: Path
) -> Path:
    """report.dcm, naming as evidence the (series, SOP class, SOP instance) UIDs of the images it describes."""
    ds = new_object(identity, BasicTextSRStorage, identity.uid("instance", "report"), "SR", "report", 90)
    ds.SeriesDescription = "Report"
    ds.ReferencedPerformedProcedureStepSequence = Sequence([])
    ds.PerformedProcedureCodeSequence = Sequence([])
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.CurrentRequestedProcedureEvidenceSequence = Sequence([_evidence(identity.study_uid, evidence)])
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([code("18748-4", "LN", "Diagnostic imaging report")])
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2000"
    ds.ContentTemplateSequence = Sequence([template])
    language = _item("HAS CONCEPT MOD", "CODE", code("121049", "DCM", "Language of Content Item and Descendants"))
    language.ConceptCodeSequence = Sequence([code("en-US", "RFC5646", "English (United States)")])
    observer_type = _item("HAS OBS CONTEXT", "CODE", code("121005", "DCM", "Observer Type"))
    observer_type.ConceptCodeSequence = Sequence([code("121006", "DCM", "Person")])
    observer = _item("HAS OBS CONTEXT", "PNAME", code("121008", "DCM", "Person Observer Name"))
    observer.PersonName = "Synthetic^Reader"
    ds.ContentSequence = Sequence([language, observer_type, observer, *(_section(*part) for part in report.sections)])
    path = folder / "report.dcm"
    save(ds, path)
    return path


def _item(relationship: str, value_type: str, concept: Dataset) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    item.ConceptNameCodeSequence = Sequence([concept])
    return item


def _section(heading: str, body: str) -> Dataset:
    (outer, outer_meaning), (inner, inner_meaning) = _HEADINGS[heading]
    section = _item("CONTAINS", "CONTAINER", code(outer, "DCM", outer_meaning))
    section.ContinuityOfContent = "SEPARATE"
    text = _item("CONTAINS", "TEXT", code(inner, "DCM", inner_meaning))
    text.TextValue = body
    section.ContentSequence = Sequence([text])
    return section


def _evidence(study_uid: str, images: list[tuple[str, str, str]]) -> Dataset:
    by_series: dict[str, list[Dataset]] = {}
    for series_uid, sop_class, sop_uid in images:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, sop_uid
        by_series.setdefault(series_uid, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = study_uid, Sequence([])
    for series_uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedSOPSequence = series_uid, Sequence(references)
        study.ReferencedSeriesSequence.append(series)
    return study
