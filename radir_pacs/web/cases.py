"""One similar case as the sidebar shows it: pictures, what the reports share, and no more of a person than allowed."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from radir_pacs import anatomy
from radir_pacs.catalogue import StoredInstance
from radir_pacs.delivery.region_on_image import closed_polyline
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import NotFound, RadirError
from radir_pacs.reports import Excerpt, excerpt, findings_from_json
from radir_pacs.types import CatalogueStudy, FindingNote, ImageKind, SimilarCase, SimilarCaseList, View

from .references import reference
from .representative import RADIOGRAPHS, modality_of
from .services import BASE, services

_NO_IMAGES = frozenset({"SR", "PR", "KO", "DOC", "SEG", "AU"})
_PICTURE_PX = 1024
_LUNG_WINDOW = "-600,1500,linear"
_OF_LUNGS = frozenset({"lungs", "airways", "pleura", "left_hemithorax", "right_hemithorax"})


def case_row(case: SimilarCase, answer: SimilarCaseList, asking: CatalogueStudy) -> dict[str, Any]:
    """The case, seen from the study ``asking``; age, sex and the days between the two as ``sidebar_shows`` allows."""
    shown = services().settings.sidebar_shows
    study = case.study
    days = (study.study_date - asking.study_date).days if study.study_date and asking.study_date else None
    return {
        "rank": case.rank,
        "score": round(case.score, 4),
        "reference": reference(study.study_uid, services().settings),
        "study": study.study_uid,
        "series": case.series_uid,
        "instance": case.sop_uid,
        "modalities": [name for name in study.modalities if name not in _NO_IMAGES],
        "age": study.patient_age_years if "age" in shown else None,
        "sex": study.patient_sex if "sex" in shown else None,
        "days": days if "date" in shown else None,
        **pictures(study.study_uid, case.series_uid, case.sop_uid, answer.region_answered.key),
        "shared": _notes(case.shared),
        "contradicting": _notes(case.contradicting),
    }


def excerpt_row(case: SimilarCase, answer: SimilarCaseList) -> dict[str, Any] | None:
    """What the reports of the case say of the region: the newest that says what the notes say, else the newest.

    None where reports are not shown; a text of None where there is no report, an empty one where it says nothing there.
    """
    context = services()
    if "report" not in context.settings.sidebar_shows:
        return None
    reports = context.catalogue.reports_of(case.study.study_uid)
    if not reports:
        return {"text": None, "marks": []}
    told: list[Excerpt] = [
        excerpt(
            report.body,
            findings_from_json(report.findings or []),
            answer.region_answered.key,
            shared=case.shared,
            contradicting=case.contradicting,
        )
        for report in reversed(reports)
    ]
    found = next((one for one in told if one.marks), None) or next((one for one in told if one.text), told[0])
    marks = [{"start": mark.start, "end": mark.end, "mark": mark.mark} for mark in found.marks]
    return {"text": found.text, "marks": marks}


def pictures(study_uid: str, series_uid: str, sop_uid: str, region: str) -> dict[str, Any]:
    """Where the picture is, small and large, and the region's outline on it in fractions (column, row)."""
    url = f"{BASE}/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}"
    try:
        image = services().catalogue.instance(sop_uid)
    except NotFound:  # deleted meanwhile
        return {"thumbnail": None, "picture": None, "outline": None}
    lungs = modality_of(image) == "CT" and not _OF_LUNGS.isdisjoint(_chain(region))
    window = f"&window={_LUNG_WINDOW}" if lungs else ""
    return {
        "thumbnail": f"{url}/thumbnail?accept=image/jpeg{window}",
        "picture": f"{url}/rendered?accept=image/jpeg&viewport={_PICTURE_PX},{_PICTURE_PX}{window}",
        "outline": _outline(image, region),
    }


def _chain(region: str) -> set[str]:
    return {region, *(above.key for above in anatomy.ancestors(region))}


def _outline(image: StoredInstance, region: str) -> list[tuple[float, float]] | None:
    """A radiograph is shown in its reading position, a slice as it is stored; None on a lateral view."""
    if modality_of(image) in RADIOGRAPHS:
        if view_of(read_header(services().blobs.path(image.content_sha256))) is View.LATERAL:
            return None
        return [(round(x, 4), round(y, 4)) for x, y in anatomy.outline(region, ImageKind.CXR)]
    if not image.rows_px or not image.columns_px:
        return None
    try:
        header = Dataset.from_json(dict(image.attributes))
        points = closed_polyline(anatomy.region(region), header)[:-1] / (image.columns_px, image.rows_px)
    except (RadirError, ValueError, TypeError):
        return None
    return [(round(float(x), 4), round(float(y), 4)) for x, y in points]


def _notes(notes: tuple[FindingNote, ...]) -> list[dict[str, Any]]:
    return [
        {
            "concept": note.concept.replace("_", " "),
            "region": anatomy.region(note.region).name,
            "absent": note.polarity == "absent",
            "severity": note.severity,
        }
        for note in notes
    ]
