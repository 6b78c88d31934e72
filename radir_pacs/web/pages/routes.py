"""A few plain pages: where things are, and an answer with its pictures. No script; the real viewer is another part."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, make_response, redirect, render_template, request

from radir_pacs import __version__, anatomy
from radir_pacs.access.references import reference_in, resolve
from radir_pacs.catalogue import Catalogue
from radir_pacs.catalogue.qido import Match, QidoLevel, QidoQuery
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.types import CatalogueStudy, FindingNote, SimilarCase, StudyState
from radir_pacs.web import context_rights
from radir_pacs.web.dicomweb import filters, parameters
from radir_pacs.web.dicomweb.rendered import THUMBNAIL_PX
from radir_pacs.web.dicomweb.representative import of_region
from radir_pacs.web.dicomweb.similar import query_of
from radir_pacs.web.services import BASE, services
from radir_pacs.web.sidebar import ohif

from .region_choice import choices
from .state_words import STATE_WORDS

blueprint = Blueprint("pages", __name__, template_folder="templates", static_folder="static", static_url_path="/static")

_NEWEST = 20
_FIND_CHARACTERS = 200
_DATE = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")
_STUDY_DATE, _ACCESSION_NUMBER, _PATIENT_ID = "00080020", "00080050", "00100020"
_READY = frozenset({StudyState.ENCODED, StudyState.INDEXED})
_WHICH_STUDY = frozenset({"study", "StudyInstanceUID"})
_ASKED_ANEW = _WHICH_STUDY | {"anatomy", "offset"}
_PICTURE_PX = 2 * THUMBNAIL_PX
_FORM = f"accept=image/png&viewport={_PICTURE_PX},{_PICTURE_PX}"


@blueprint.get("/")
def start() -> Response:
    """Where things are: the newest studies, or with ``?find=…`` those of an accession number, patient id or date.

    An anonymous reference finds its study too, for who may see this page by right and not by a sidebar's context.
    """
    catalogue = services().catalogue
    text = (parameters.one("find") or "").strip()
    if len(text) > _FIND_CHARACTERS or not text.isprintable():
        raise BadInput("this is no accession number, patient id, date or reference")
    return _page(
        "start.html",
        counts=catalogue.overview().studies,
        studies=_found(catalogue, text),
        find=text,
        most=_NEWEST,
        states=STATE_WORDS,
        ready=_READY,
    )


@blueprint.get("/sign-in")
def sign_in() -> Response:
    """Whoever comes here has given a token; the browser goes on to ``to``, a page of OHIF."""
    to = parameters.one("to") or ""
    if not to.isprintable() or not ohif.is_page(to.partition("?")[0]):
        raise BadInput("to is not a page of OHIF")
    response = make_response(redirect(to))
    response.headers["Cache-Control"] = "no-store"
    return response


def _found(catalogue: Catalogue, text: str) -> list[CatalogueStudy]:
    """The newest studies that fit what a person typed; all, when that is nothing."""
    date = _DATE.fullmatch(text)
    keys: list[tuple[Match, ...]]
    reference = reference_in(text)
    if reference:
        may = context_rights.context() is None
        found = resolve(reference, catalogue.studies, services().settings, by="web") if may else ()
        return [catalogue.studies.get(uid) for uid in found]
    if not text:
        keys = [()]
    elif date:
        keys = [(Match(path=(_STUDY_DATE,), vr="DA", values=("".join(date.groups()),)),)]
    else:
        keys = [(Match(path=(tag,), vr="LO", values=(text,)),) for tag in (_ACCESSION_NUMBER, _PATIENT_ID)]
    pages = [catalogue.qido.search(QidoQuery(level=QidoLevel.STUDY, limit=_NEWEST, matches=key)) for key in keys]
    studies = {row.study.study_uid: row.study for page in pages for row in page.rows}
    return list(studies.values())[:_NEWEST]


@blueprint.get("/studies/<study>")
def study(study: str) -> Response:
    """One study: where it stands and the regions that can be asked for."""
    found = services().catalogue.studies.get(study)
    return _page(
        "study.html",
        study=found,
        picture=f"{BASE}/studies/{study}/rendered?{_FORM}",
        ready=found.state in _READY,
        meaning=STATE_WORDS[found.state],
        ohif=ohif.is_installed(services().settings),
        choices=choices(services().catalogue, study),
        chosen=anatomy.ROOT,
    )


@blueprint.get("/similar")
def similar() -> Response:
    """``/similar?StudyInstanceUID=…&anatomy=…``: the query image and the cases like it; takes the query's filters."""
    study_uid = parameters.one("study") or parameters.one("StudyInstanceUID") or ""
    if not is_valid_uid(study_uid):
        raise BadInput("StudyInstanceUID is not a UID (PS3.5 9.1)")
    query, notes = query_of(study_uid, own=filters.OWN | _WHICH_STUDY)
    catalogue = services().catalogue
    answer = services().searcher.similar(query)
    region = answer.region_answered.key
    return _page(
        "similar.html",
        answer=answer,
        study=query,
        notes=[*notes, *answer.warnings],
        query_picture=_picture(answer.query_sop_uid, region),
        cases=[(case, _picture(case.sop_uid, region), *_notes(case)) for case in answer.cases],
        choices=choices(catalogue, study_uid),
        chosen=query.region,
        kept=[pair for pair in request.args.items(multi=True) if pair[0] not in _ASKED_ANEW],
    )


def _picture(sop_uid: str, region: str) -> dict[str, Any]:
    """The address of the picture that shows ``region`` and the points of its outlines, none once it was deleted."""
    try:
        found = of_region(services().catalogue.instances.get(sop_uid), region)
    except NotFound:
        return {"address": "", "outlines": []}
    one = found.instance
    address = f"{BASE}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_uid}"
    address += f"/frames/{found.frame}/rendered?{_FORM}" if one.frames > 1 else f"/rendered?{_FORM}"
    if found.window is not None:
        address += "&window={:g},{:g},linear".format(*found.window)
    return {
        "address": address,
        "outlines": [" ".join(f"{x:g},{y:g}" for x, y in points) for points in found.outlines],
    }


def _notes(case: SimilarCase) -> tuple[list[str], list[str]]:
    """What the two reports share and where they differ, each once."""
    return _words(case.shared), _words(case.contradicting)


def _words(notes: Iterable[FindingNote]) -> list[str]:
    written = (note.words + (f" ({note.severity})" if note.severity else "") for note in notes)
    return list(dict.fromkeys(written))


def _page(template: str, **values: object) -> Response:
    response = make_response(
        render_template(
            template,
            base=BASE,
            base_url=services().base_url,
            version=__version__,
            sidebar=not services().settings.sidebar_context_tokens,  # else it opens by a token of the PACS alone
            **values,
        )
    )
    response.headers["Vary"] = "Accept"
    return response
