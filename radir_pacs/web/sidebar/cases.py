"""One similar case as the sidebar shows it: pictures, what the reports share, and no more of a person than allowed."""

from __future__ import annotations

from typing import Any

from radir_pacs import anatomy
from radir_pacs.access.references import reference
from radir_pacs.errors import NotFound
from radir_pacs.reports import Excerpt, excerpt, findings_from_json
from radir_pacs.types import CatalogueStudy, FindingNote, SimilarCase, SimilarCaseList
from radir_pacs.web.dicomweb.rendered import THUMBNAIL_PX
from radir_pacs.web.dicomweb.representative import of_region
from radir_pacs.web.services import BASE, services

_NO_IMAGES = frozenset({"SR", "PR", "KO", "DOC", "SEG", "AU"})
_PICTURE_PX = 1024


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
    reports = context.catalogue.reports.of_study(case.study.study_uid)
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
    """Where the picture is that shows ``region``, small and large, in which window, and the region's outlines on it.

    ``outlines`` lie on the picture as we render it, ``stored_outlines`` on its pixels as they are stored; both in
    fractions (column, row), a polygon per side.
    """
    try:
        image = services().catalogue.instances.get(sop_uid)
    except NotFound:  # deleted meanwhile
        return {"thumbnail": None, "picture": None, "outlines": []}
    found = of_region(image, region)
    one, frame = found.instance, found.frame
    url = f"{BASE}/studies/{study_uid}/series/{series_uid}/instances/{one.sop_uid}"
    small = f"{url}/thumbnail?accept=image/jpeg"
    if one.frames > 1:
        url += f"/frames/{frame}"
        small = f"{url}/rendered?accept=image/jpeg&viewport={THUMBNAIL_PX},{THUMBNAIL_PX}"
    window = "&window={:g},{:g},linear".format(*found.window) if found.window else ""
    return {
        "instance": one.sop_uid,
        "frame": frame,
        "window": found.window,
        "thumbnail": small + window,
        "picture": f"{url}/rendered?accept=image/jpeg&viewport={_PICTURE_PX},{_PICTURE_PX}{window}",
        "outlines": _rounded(found.outlines),
        "stored_outlines": _rounded(found.stored_outlines),
    }


def _rounded(outlines: tuple[anatomy.Outline, ...]) -> list[list[tuple[float, float]]]:
    return [[(round(x, 4), round(y, 4)) for x, y in points] for points in outlines]


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
