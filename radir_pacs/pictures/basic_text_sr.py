"""The content of a report as Basic Text SR (PS3.3 A.35.1): headings and their texts, laid out as TID 2000."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
# Concepts of heading and text (CID 7001 and CID 7002).
_HEADINGS = {
    "INDICATION": (("121060", "History"), ("121060", "History")),
    "TECHNIQUE": (("121064", "Current Procedure Descriptions"), ("121065", "Procedure Description")),
    "COMPARISON": (("121066", "Prior Procedure Descriptions"), ("121065", "Procedure Description")),
    "FINDINGS": (("121070", "Findings"), ("121071", "Finding")),
    "IMPRESSION": (("121072", "Impressions"), ("121073", "Impression")),
}


def write_report(
    ds: Dataset,
    sections: Iterable[tuple[str, str]],
    images: Iterable[tuple[str, str, str]],
    *,
    context: Iterable[Dataset] = (),
) -> None:
    """Make ``ds``, which names its study, a complete, unverified report.

    sections: heading (INDICATION, TECHNIQUE, COMPARISON, FINDINGS or IMPRESSION) and text. images: the evidence, by
    (series UID, SOP class UID, SOP instance UID). context: content items on language and observer, which come first.
    """
    ds.Modality, ds.SeriesDescription = "SR", "Report"
    ds.ReferencedPerformedProcedureStepSequence, ds.PerformedProcedureCodeSequence = [], []
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.CurrentRequestedProcedureEvidenceSequence = [_evidence(ds.StudyInstanceUID, images)]
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = [code("18748-4", "LN", "Diagnostic imaging report")]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2000"
    ds.ContentTemplateSequence = [template]
    ds.ContentSequence = [*context, *(_section(heading, text) for heading, text in sections)]


def content_item(relationship: str, value_type: str, concept: Dataset) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    item.ConceptNameCodeSequence = [concept]
    return item


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _section(heading: str, body: str) -> Dataset:
    outer, inner = _HEADINGS[heading]
    section = content_item("CONTAINS", "CONTAINER", code(outer[0], "DCM", outer[1]))
    section.ContinuityOfContent = "SEPARATE"
    text = content_item("CONTAINS", "TEXT", code(inner[0], "DCM", inner[1]))
    text.TextValue = body
    section.ContentSequence = [text]
    return section


def _evidence(study_uid: str, images: Iterable[tuple[str, str, str]]) -> Dataset:
    by_series: dict[str, list[Dataset]] = {}
    for series_uid, sop_class_uid, sop_uid in images:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
        by_series.setdefault(series_uid, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = study_uid, []
    for series_uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedSOPSequence = series_uid, references
        study.ReferencedSeriesSequence.append(series)
    return study
