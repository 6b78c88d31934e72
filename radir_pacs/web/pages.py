"""A few plain pages: where things are, and an answer with its pictures. No script; the real viewer is another part."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template

from radir_pacs import __version__, anatomy
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput
from radir_pacs.types import SimilarCase, StudyState

from . import parameters
from .rendered import THUMBNAIL_PX
from .services import BASE, services
from .similar import query_of

blueprint = Blueprint("pages", __name__, template_folder="templates", static_folder="static", static_url_path="/static")

_PICTURE_PX = 2 * THUMBNAIL_PX


@blueprint.get("/")
def start() -> Response:
    """Where things are."""
    return _page("start.html", studies=services().catalogue.overview().studies)


@blueprint.get("/studies/<study>")
def study(study: str) -> Response:
    """One study: where it stands and the regions that can be asked for."""
    found = services().catalogue.study(study)
    return _page(
        "study.html",
        study=found,
        picture=f"{BASE}/studies/{study}/rendered?accept=image/png&viewport={_PICTURE_PX},{_PICTURE_PX}",
        ready=found.state in (StudyState.ENCODED, StudyState.INDEXED),
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
    return _page(
        "similar.html",
        answer=answer,
        query_picture=_picture(study_uid, answer.query_series_uid, answer.query_sop_uid),
        cases=[(case, _picture_of(case)) for case in answer.cases],
    )


def _picture_of(case: SimilarCase) -> str:
    return _picture(case.study.study_uid, case.series_uid, case.sop_uid)


def _picture(study_uid: str, series_uid: str, sop_uid: str) -> str:
    instance = f"{BASE}/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}"
    return f"{instance}/rendered?accept=image/png&viewport={_PICTURE_PX},{_PICTURE_PX}"


def _page(template: str, **values: object) -> Response:
    context = services()
    response = make_response(
        render_template(template, base=BASE, base_url=context.base_url, version=__version__, **values)
    )
    response.headers["Vary"] = "Accept"
    return response
