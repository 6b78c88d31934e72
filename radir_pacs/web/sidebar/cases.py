"""One similar case as the sidebar shows it: pictures, what the reports share, and no more of a person than allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from radir_pacs import anatomy
from radir_pacs.access.references import reference
from radir_pacs.catalogue import Catalogue, ReportRow, StoredInstance
from radir_pacs.delivery.region_on_image import outlines_as_read, outlines_on
from radir_pacs.errors import NotFound
from radir_pacs.reports import Excerpt, excerpt, findings_from_json, whole_report
from radir_pacs.scopes import WITHOUT_IMAGES
from radir_pacs.similar_cases import FindingNote, SimilarCase, SimilarCaseList
from radir_pacs.types import CatalogueStudy, ImageKind
from radir_pacs.web import audit, context_rights
from radir_pacs.web.dicomweb.rendered import THUMBNAIL_PX
from radir_pacs.web.dicomweb.representative import kind_of, of_region
from radir_pacs.web.dicomweb.slice_order import from_head_to_feet
from radir_pacs.web.language import current
from radir_pacs.web.services import BASE, services

PICTURE = "accept=image/jpeg&viewport=1024,1024"


@dataclass(frozen=True, kw_only=True)
class PictureRegion:
    """Keys of regions: whose slice and window are shown, and whose outlines are drawn."""

    seen: str
    outlined: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The picture that shows a place in a study: the slice of a CT, its window, outlines in fractions (column, row)."""

    instance: StoredInstance
    frame: int
    window: anatomy.Window | None  # None: as the file says
    outlines: tuple[anatomy.Outline, ...]  # on the picture as it is rendered, a polygon per side
    stored_outlines: tuple[anatomy.Outline, ...]  # the same on the pixels as they are stored

    def rendered(self, parameters: str) -> str:
        """The address of the picture; ``parameters`` are those of the query, without the window."""
        return context_rights.of_link(f"{self._url}/rendered?{parameters}{window_parameter(self.window)}")

    @property
    def thumbnail(self) -> str:
        if self.instance.frames > 1:
            return self.rendered(f"accept=image/jpeg&viewport={THUMBNAIL_PX},{THUMBNAIL_PX}")
        return context_rights.of_link(f"{self._url}/thumbnail?accept=image/jpeg{window_parameter(self.window)}")

    @property
    def _url(self) -> str:
        one = self.instance
        url = f"{BASE}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_uid}"
        return f"{url}/frames/{self.frame}" if one.frames > 1 else url


def window_parameter(window: anatomy.Window | None) -> str:
    return "&window={:g},{:g},linear".format(*window) if window else ""


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
        "score": case.score,  # rounded once, where it is shown
        "reference": reference(study.study_uid, services().settings),
        "study": study.study_uid,
        "series": case.series_uid,
        "modalities": [name for name in study.modalities if name not in WITHOUT_IMAGES],
        "age": study.patient_age_years if "age" in shown else None,
        "sex": study.patient_sex if "sex" in shown else None,
        "days": days if "date" in shown else None,
        "region": {"key": at.seen, "name": current().region(at.seen)},
        **pictures(case.sop_uid, at),
        "query": pictures(answer.query_sop_uid, at),
        "shared": _notes(case.shared),
        "contradicting": _notes(case.contradicting),
    }


def place_of(case: SimilarCase, answer: SimilarCaseList) -> PictureRegion:
    """The place of the first finding that both reports affirm, within the region that answered; else as asked."""
    answered = answer.region_answered.key
    within = {answered, *(below.key for below in anatomy.descendants(answered))}
    affirmed = (note.region for note in case.shared if note.polarity == "present" and note.region in within)
    found = next(affirmed, None)
    return asked_place(answer) if found is None else PictureRegion(seen=found, outlined=found)


def asked_place(answer: SimilarCaseList) -> PictureRegion:
    """The picture shows the region asked for; the outline is that of the region compared, which may be a larger one."""
    return PictureRegion(seen=answer.region_asked.key, outlined=answer.region_answered.key)


def excerpt_row(case: SimilarCase, answer: SimilarCaseList) -> dict[str, Any] | None:
    """What the case's reports say about the region: the newest that contains the notes' findings, else the newest.

    None where reports are not shown; the text is None without a report, and empty where it does not mention the region.
    ``whole`` is the whole report, where that is allowed.
    """
    context = services()
    if "report" not in context.settings.sidebar_shows or not audit.caller().knows_persons:
        return None
    reports = context.catalogue.reports.of_study(case.study.study_uid)
    if not reports:
        return {"text": None, "marks": [], "whole": None}
    told = [(report, _said(excerpt, report, case, answer)) for report in reversed(reports)]
    marked, spoken = [one for one in told if one[1].marks], [one for one in told if one[1].text]
    report, found = next(iter((*marked, *spoken)), told[0])
    whole = None
    if "whole_report" in context.settings.sidebar_shows:
        whole = _marked(_said(whole_report, report, case, answer))
    return {**_marked(found), "whole": whole}


def _said(of: Callable[..., Excerpt], report: ReportRow, case: SimilarCase, answer: SimilarCaseList) -> Excerpt:
    findings, region = findings_from_json(report.findings or []), answer.region_answered.key
    return of(report.body, findings, region, shared=case.shared, contradicting=case.contradicting)


def _marked(found: Excerpt) -> dict[str, Any]:
    marks = [{"start": mark.start, "end": mark.end, "mark": mark.mark, "absent": mark.absent} for mark in found.marks]
    return {"text": found.text, "marks": marks}


def pictures(sop_uid: str, at: PictureRegion) -> dict[str, Any]:
    """Where the picture of a place is, small and large, with its instance, frame, window and outlines.

    sop_uid: the instance that represents the series; it is shown where no slice is known for the region.
    """
    found = shown_of(sop_uid, at)
    if found is None:  # deleted meanwhile
        nothing = dict.fromkeys(("kind", "instance", "frame", "window", "thumbnail", "picture"))
        return {**nothing, "outlines": [], "stored_outlines": []}
    return {
        "kind": kind_of(found.instance),
        "instance": found.instance.sop_uid,
        "frame": found.frame,
        "window": found.window,
        "thumbnail": found.thumbnail,
        "picture": found.rendered(PICTURE),
        "outlines": _rounded(found.outlines),
        "stored_outlines": _rounded(found.stored_outlines),
    }


def shown_of(sop_uid: str, at: PictureRegion) -> Shown | None:
    """The picture of a place in the series that an instance represents; None when it is no longer there."""
    try:
        found = of_region(services().catalogue.instances.get(sop_uid), at.seen)
    except NotFound:
        return None
    return Shown(
        instance=found.instance,
        frame=found.frame,
        window=found.window,
        outlines=outlines_as_read(at.outlined, found.instance.attributes),
        stored_outlines=outlines_on(at.outlined, found.instance.attributes),
    )


def slices_of(study_uid: str, series_uid: str) -> tuple[str, ...]:
    """SOP Instance UIDs of the slices of a CT from head to feet. Raises NotFound without such a study."""
    catalogue = services().catalogue
    return _ordered(catalogue, study_uid, series_uid, catalogue.studies.get(study_uid).instance_count)


@lru_cache(maxsize=256)
def _ordered(catalogue: Catalogue, study_uid: str, series_uid: str, count: int) -> tuple[str, ...]:
    """``count``, the instances of the study, is part of the cache's key, so that a late slice is not missed."""
    images = catalogue.instances.of_study(study_uid, series_uid)
    slices = [image for image in images if image.rows_px and kind_of(image) is ImageKind.CT]
    return tuple(image.sop_uid for image in from_head_to_feet(slices))


def _rounded(outlines: tuple[anatomy.Outline, ...]) -> list[list[tuple[float, float]]]:
    return [[(round(x, 4), round(y, 4)) for x, y in points] for points in outlines]


def _notes(notes: tuple[FindingNote, ...]) -> list[dict[str, Any]]:
    """The findings in the reader's language."""
    spoken = current()
    return [
        {
            "concept": spoken.finding(note.concept),
            "region": spoken.region(note.region),
            "absent": note.polarity == "absent",
            "severity": spoken.severity(note.severity) if note.severity else None,
        }
        for note in notes
    ]
