"""Hand-made headers and answers for the tests of what we deliver."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from pydicom.dataset import Dataset

from radir_pacs import anatomy
from radir_pacs.delivery.structured_report import similar_cases_sr
from radir_pacs.similar_cases import AnsweredRegion, FindingNote, Query, SimilarCase, SimilarCaseList
from radir_pacs.types import CatalogueStudy, ImageRef, StudyState

NOW = datetime(2026, 1, 2, 3, 4, 5)
DEVICE_UID = "2.25.77"
SOP_CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "RG": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
}
_EFFUSION = FindingNote(concept="pleural_effusion", region="left_pleura", polarity="present", severity="mild")
_CONTRADICTING = (
    FindingNote(concept="mass", region="right_costophrenic_angle", polarity="present"),
    FindingNote(concept="subcutaneous_emphysema", region="chest", polarity="absent"),
)
OTHERS_NAME, OTHERS_ID = "Somebody^Else", "OTHER-4711"


def image_header(modality: str = "DX", **changes: Any) -> Dataset:
    """A header such as a modality writes; a change to None leaves the attribute out."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SOP_CLASSES[modality], "1.2.3.1.3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.1.1", "1.2.3.1.2"
    ds.Modality, ds.Rows, ds.Columns = modality, 400, 500
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Müller^Jane", "P1", "19500101", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "101010", "S1", "A1"
    ds.ReferringPhysicianName, ds.StudyDescription = "House^Gregory", "Chest"
    if modality == "CT":
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-150, -150, 30]
        ds.PixelSpacing, ds.SliceThickness, ds.FrameOfReferenceUID = [0.7, 0.7], 1.25, "1.2.3.99"
    else:
        ds.PatientOrientation, ds.ImagerPixelSpacing, ds.ViewPosition = ["L", "F"], [0.15, 0.15], "PA"
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def similar_answer(region: str = "left_lower_lobe", count: int = 3, **changes: Any) -> SimilarCaseList:
    cases = tuple(
        SimilarCase(
            rank=n + 1,
            score=0.987654321 - 0.1 * n,
            study=CatalogueStudy(
                study_uid=f"1.2.9.{n}.1",
                state=StudyState.INDEXED,
                modalities=("DX",),
                study_date=date(2019, 2, 3),
                patient_name=OTHERS_NAME,
                patient_id=OTHERS_ID,
                series_count=1,
                instance_count=2,
            ),
            series_uid=f"1.2.9.{n}.2",
            sop_uid=f"1.2.9.{n}.3",
            shared=(_EFFUSION,),
            contradicting=_CONTRADICTING,
        )
        for n in range(count)
    )
    made: dict[str, Any] = {
        "query": Query(study_uid="1.2.3.1.1", region=region),
        "region_asked": anatomy.region(region),
        "region_answered": anatomy.region(region),
        "model_id": "cxr-tiny-1",
        "generation": "g-17",
        "as_of": datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC),
        "exact": False,
        "cases": cases,
    }
    return SimilarCaseList(**(made | changes))


def hit_headers(answer: SimilarCaseList, modality: str = "DX") -> dict[str, Dataset]:
    """Headers of the cases, with everything about their patients that a report must not take over."""
    return {
        case.sop_uid: image_header(
            modality, SOPInstanceUID=case.sop_uid, PatientName=OTHERS_NAME, PatientID=OTHERS_ID, AccessionNumber="OTHER"
        )
        for case in answer.cases
    }


def report(modality: str = "DX", region: str = "left_lower_lobe", **options: Any) -> Dataset:
    """A report on hand-made material; ``answer`` and ``query_image`` may be given, the rest are options."""
    answer = options.pop("answer", None) or similar_answer(region)
    query_image = options.pop("query_image", None) or image_header(modality)
    made: dict[str, Any] = {"now": NOW, "device_uid": DEVICE_UID} | options
    return similar_cases_sr(answer, query_image, hit_headers(answer, modality), **made)


def several_regions() -> dict[str, Any]:
    """What makes a report of a question over two regions, one of them answered by its parent."""
    regions = tuple(
        AnsweredRegion(asked=anatomy.region(asked), answered=anatomy.region(answered), weight=weight)
        for asked, answered, weight in (("left_pleura", "left_pleura", 2.0), ("right_lower_lobe", "right_lung", 1.0))
    )
    answer = similar_answer("left_pleura", regions=regions)
    return {"answer": replace(answer, cases=tuple(replace(case, by_region=(0.9, 0.7)) for case in answer.cases))}


def several_slices() -> dict[str, Any]:
    """What makes a report whose region is outlined on three slices, "1.2.3.1.3" the best of them."""
    uids = ("1.2.3.1.3", "1.2.3.1.4", "1.2.3.1.5")
    return {
        "answer": similar_answer("lungs", query_images=tuple(ImageRef(sop_uid=uid) for uid in uids)),
        "more_images": [image_header("CT", SOPInstanceUID=uid) for uid in uids[1:]],
    }
