"""Reports as Basic Text SR (PS3.3 A.35.1), laid out as TID 2000."""

from __future__ import annotations

from pathlib import Path

from radir_pacs.pictures.basic_text_sr import BASIC_TEXT_SR, code, content_item, write_report

from .dicom_base import Identity, new_object, save
from .wording import WrittenReport


def write_report_sr(
    identity: Identity, report: WrittenReport, evidence: list[tuple[str, str, str]], folder: Path
) -> Path:
    """report.dcm, naming as evidence the (series, SOP class, SOP instance) UIDs of the images it describes."""
    ds = new_object(identity, BASIC_TEXT_SR, identity.uid("instance", "report"), "SR", "report", 90)
    spoken = code("121049", "DCM", "Language of Content Item and Descendants")
    language = content_item("HAS CONCEPT MOD", "CODE", spoken)
    language.ConceptCodeSequence = [code("en-US", "RFC5646", "English (United States)")]
    observer_type = content_item("HAS OBS CONTEXT", "CODE", code("121005", "DCM", "Observer Type"))
    observer_type.ConceptCodeSequence = [code("121006", "DCM", "Person")]
    observer = content_item("HAS OBS CONTEXT", "PNAME", code("121008", "DCM", "Person Observer Name"))
    observer.PersonName = "Synthetic^Reader"
    write_report(ds, report.sections, evidence, context=(language, observer_type, observer))
    path = folder / "report.dcm"
    save(ds, path)
    return path
