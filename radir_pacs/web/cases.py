"""One similar case as the sidebar shows it: pictures, what the reports share, and no more of a person than allowed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.dataset import Dataset

from radir_pacs import anatomy
from radir_pacs.catalogue import Catalogue, StoredInstance
from radir_pacs.delivery.region_on_image import closed_polyline
from radir_pacs.dicom.header import read_header
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import NotFound, RadirError
from radir_pacs.reports import Excerpt, excerpt, findings_from_json, whole_report
from radir_pacs.types import CatalogueStudy, FindingNote, ImageKind, SimilarCase, SimilarCaseList, View

from .language import current
from .references import reference
from .region_picture import Window, from_head_to_feet, slice_of, window_of
from .representative import RADIOGRAPHS, modality_of
from .services import BASE, services

_NO_IMAGES = frozenset({"SR", "PR", "KO", "DOC", "SEG", "AU"})
_PICTURE_PX = 1024

Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Keys of regions: whose slice and window are shown, and whose outline is drawn."""

    seen: str
    outlined: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The image that shows a region of a study, and how: the slice of a CT, its window, outlines in fractions."""

    study_uid: str
    series_uid: str
    sop_uid: str
    window: Window | None  # None: as the file says
    outline: Points | None  # (column, row) on the picture as it is rendered
    outline_stored: Points | None  # the same on the image as it is stored

    @property
    def url(self) -> str:
        return f"{BASE}/studies/{self.study_uid}/series/{self.series_uid}/instances/{self.sop_uid}"

    @property
    def rendering(self) -> str:
        """The query parameters of its picture, large."""
        window = f"&window={self.window.center:g},{self.window.width:g},linear" if self.window else ""
        return f"accept=image/jpeg&viewport={_PICTURE_PX},{_PICTURE_PX}{window}"


def case_row(case: SimilarCase, answer: SimilarCaseList, asking: CatalogueStudy) -> dict[str, Any]:
    """The case, seen from the study ``asking``; age, sex and the days between the two as ``sidebar_shows`` allows.

    Its pictures, and those of the query to be seen beside it, show the region of the first finding that both reports
    affirm, else the region asked for.
    """
    shown = services().settings.sidebar_shows
    study = case.study
    days = (study.study_date - asking.study_date).days if study.study_date and asking.study_date else None
    at = place_of(case, answer)
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
        "region": {"key": at.seen, "name": current().region(at.seen)},
        **pictures(study.study_uid, case.series_uid, case.sop_uid, at),
        "query": pictures(asking.study_uid, answer.query_series_uid, answer.query_sop_uid, at),
        "shared": _notes(case.shared),
        "contradicting": _notes(case.contradicting),
    }


def place_of(case: SimilarCase, answer: SimilarCaseList) -> Place:
    """Where the finding is that makes the case like the query, within the region that answered; else as asked."""
    answered = answer.region_answered.key
    within = {answered, *(below.key for below in anatomy.descendants(answered))}
    affirmed = (note.region for note in case.shared if note.polarity == "present" and note.region in within)
    found = next(affirmed, None)
    return asked_place(answer) if found is None else Place(seen=found, outlined=found)


def asked_place(answer: SimilarCaseList) -> Place:
    """The region asked for is to be seen; outlined is what was compared, which may be a region around it."""
    return Place(seen=answer.region_asked.key, outlined=answer.region_answered.key)


def excerpt_row(case: SimilarCase, answer: SimilarCaseList) -> dict[str, Any] | None:
    """What the newest report of a case says of the region, and where allowed the whole of it; None without a right."""
    context = services()
    if "report" not in context.settings.sidebar_shows:
        return None
    reports = context.catalogue.reports.of_study(case.study.study_uid)
    if not reports:
        return {"text": None, "marks": [], "whole": None}
    newest = reports[-1]
    findings, region = findings_from_json(newest.findings or []), answer.region_answered.key
    whole = None
    if "whole_report" in context.settings.sidebar_shows:
        whole = whole_report(newest.body, findings, region, shared=case.shared, contradicting=case.contradicting)
    found = excerpt(newest.body, findings, region, shared=case.shared, contradicting=case.contradicting)
    return {**_marked(found), "whole": whole and _marked(whole)}


def _marked(found: Excerpt) -> dict[str, Any]:
    marks = [{"start": mark.start, "end": mark.end, "mark": mark.mark} for mark in found.marks]
    return {"text": found.text, "marks": marks}


def pictures(study_uid: str, series_uid: str, sop_uid: str, at: Place) -> dict[str, Any]:
    """Where the picture of a place is, small and large, with its instance, window and outlines.

    sop_uid: the instance that stands for the series, which is shown where no slice is the region's own.
    """
    found = shown_of(study_uid, series_uid, sop_uid, at)
    if found is None:  # deleted meanwhile
        return dict.fromkeys(("instance", "thumbnail", "picture", "window", "outline", "outline_stored"))
    window = found.rendering.partition("&window=")[2]
    return {
        "instance": found.sop_uid,
        "thumbnail": f"{found.url}/thumbnail?accept=image/jpeg" + (f"&window={window}" if window else ""),
        "picture": f"{found.url}/rendered?{found.rendering}",
        "window": [found.window.center, found.window.width] if found.window else None,
        "outline": found.outline,
        "outline_stored": found.outline_stored,
    }


def shown_of(study_uid: str, series_uid: str, sop_uid: str, at: Place) -> Shown | None:
    """The image of the series that shows a place; None when it is no longer there."""
    catalogue = services().catalogue
    try:
        image = catalogue.instances.get(sop_uid)
        if modality_of(image) == "CT":
            own = slice_of(at.seen, slices_of(study_uid, series_uid))
            image = image if own in (None, sop_uid) else catalogue.instances.get(own or sop_uid)
    except NotFound:
        return None
    return Shown(
        study_uid=study_uid,
        series_uid=series_uid,
        sop_uid=image.sop_uid,
        window=window_of(at.seen) if modality_of(image) == "CT" else None,
        outline=_outline(image, at.outlined),
        outline_stored=_outline_stored(image, at.outlined),
    )


def slices_of(study_uid: str, series_uid: str) -> tuple[str, ...]:
    """SOP Instance UIDs of the series' images from head to feet. Raises NotFound without such a study."""
    catalogue = services().catalogue
    return _ordered(catalogue, study_uid, series_uid, catalogue.studies.get(study_uid).instance_count)


@lru_cache(maxsize=256)
def _ordered(catalogue: Catalogue, study_uid: str, series_uid: str, count: int) -> tuple[str, ...]:
    """``count``: instances of the study, so that a late slice is not missed."""
    images = [image for image in catalogue.instances.of_study(study_uid, series_uid) if image.rows_px]
    return tuple(image.sop_uid for image in from_head_to_feet(images))


def _outline(image: StoredInstance, region: str) -> Points | None:
    """A radiograph is shown in its reading position, a slice as it is stored; None on a lateral view."""
    if modality_of(image) not in RADIOGRAPHS:
        return _outline_stored(image, region)
    if view_of(read_header(services().blobs.path(image.content_sha256))) is View.LATERAL:
        return None
    return [(round(x, 4), round(y, 4)) for x, y in anatomy.outline(region, ImageKind.CXR)]


def _outline_stored(image: StoredInstance, region: str) -> Points | None:
    if not image.rows_px or not image.columns_px:
        return None
    try:
        header = Dataset.from_json(dict(image.attributes))
        points = closed_polyline(anatomy.region(region), header)[:-1] / (image.columns_px, image.rows_px)
    except (RadirError, ValueError, TypeError):
        return None
    return [(round(float(x), 4), round(float(y), 4)) for x, y in points]


def _notes(notes: tuple[FindingNote, ...]) -> list[dict[str, Any]]:
    """The findings in the reader's language."""
    spoken = current()
    return [
        {
            "concept": spoken.finding(note.concept.replace(" ", "_")),
            "region": spoken.region(note.region),
            "absent": note.polarity == "absent",
            "severity": spoken.severity(note.severity) if note.severity else None,
        }
        for note in notes
    ]
