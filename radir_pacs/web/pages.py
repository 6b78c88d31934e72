"""A few plain pages: where things are, and an answer with its pictures. No script; the real viewer is another part."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, Response, make_response, render_template

from radir_pacs import __version__, anatomy
from radir_pacs.catalogue.qido import QidoLevel, QidoQuery
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput
from radir_pacs.types import FindingNote, ImageKind, Region, SimilarCase, StudyState

from . import parameters
from .ohif import is_installed
from .rendered import THUMBNAIL_PX
from .representative import modality_of
from .services import BASE, services
from .similar import query_of

blueprint = Blueprint("pages", __name__, template_folder="templates", static_folder="static", static_url_path="/static")

_NEWEST = 20
_PICTURE_PX = 2 * THUMBNAIL_PX
_FORM = f"accept=image/png&viewport={_PICTURE_PX},{_PICTURE_PX}"
_LUNG_WINDOW = "&window=-600,1500,linear"
_OF_LUNGS = frozenset({"lungs", "airways", "pleura", "left_hemithorax", "right_hemithorax"})


@blueprint.get("/")
def start() -> Response:
    """Where things are."""
    catalogue = services().catalogue
    newest = catalogue.qido(QidoQuery(level=QidoLevel.STUDY, limit=_NEWEST))
    return _page("start.html", counts=catalogue.overview().studies, newest=[row.study for row in newest.rows])


@blueprint.get("/studies/<study>")
def study(study: str) -> Response:
    """One study: where it stands and the regions that can be asked for."""
    found = services().catalogue.study(study)
    return _page(
        "study.html",
        study=found,
        picture=f"{BASE}/studies/{study}/rendered?{_FORM}",
        ready=found.state in (StudyState.ENCODED, StudyState.INDEXED),
        ohif=is_installed(services().settings),
        regions=sorted(region.name for region in anatomy.regions()),
    )


@blueprint.get("/similar")
def similar() -> Response:
    """``/similar?study=…&anatomy=…``: the query image and the cases like it; takes the same filters as the query."""
    study_uid = parameters.one("study") or ""
    if not is_valid_uid(study_uid):
        raise BadInput("study is not a UID (PS3.5 9.1)")
    query, _ = query_of(study_uid)
    answer = services().searcher.similar(query)
    image = services().catalogue.instance(answer.query_sop_uid)
    kind = ImageKind.CT if modality_of(image) == "CT" else ImageKind.CXR
    form = _FORM + (_LUNG_WINDOW if kind is ImageKind.CT and _is_of_lungs(answer.region_answered) else "")
    return _page(
        "similar.html",
        answer=answer,
        query_picture=_picture(study_uid, answer.query_series_uid, answer.query_sop_uid, form),
        cases=[
            (case, _picture(case.study.study_uid, case.series_uid, case.sop_uid, form), *_notes(case))
            for case in answer.cases
        ],
        outline=" ".join(f"{x:g},{y:g}" for x, y in anatomy.outline(answer.region_answered.key, kind)),
    )


def _is_of_lungs(region: Region) -> bool:
    return not _OF_LUNGS.isdisjoint((region.key, *(above.key for above in anatomy.ancestors(region.key))))


def _picture(study_uid: str, series_uid: str, sop_uid: str, form: str) -> str:
    return f"{BASE}/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}/rendered?{form}"


def _notes(case: SimilarCase) -> tuple[list[str], list[str]]:
    """What the two reports share and where they differ, each once."""
    return _words(case.shared), _words(case.contradicting)


def _words(notes: Iterable[FindingNote]) -> list[str]:
    written = (
        ("no " if note.polarity == "absent" else "")
        + note.concept.replace("_", " ")
        + (f" ({note.severity})" if note.severity else "")
        for note in notes
    )
    return list(dict.fromkeys(written))


def _page(template: str, **values: object) -> Response:
    response = make_response(
        render_template(template, base=BASE, base_url=services().base_url, version=__version__, **values)
    )
    response.headers["Vary"] = "Accept"
    return response
