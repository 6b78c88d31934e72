"""A few plain pages without scripts: the list of studies, a study, an answer with its pictures, the addresses."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, Response, current_app, make_response, render_template, request

from radir_pacs import __version__, anatomy
from radir_pacs.access import finding
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput
from radir_pacs.similar_cases import FindingNote, SimilarCase
from radir_pacs.types import StudyState
from radir_pacs.web import audit, context_rights, language
from radir_pacs.web.dicomweb import filters, parameters
from radir_pacs.web.dicomweb.rendered import THUMBNAIL_PX
from radir_pacs.web.dicomweb.similar import query_of
from radir_pacs.web.services import BASE, services
from radir_pacs.web.sidebar import ohif
from radir_pacs.web.sidebar.cases import asked_place, place_of, shown_of

from .region_choice import choices

blueprint = Blueprint("pages", __name__)

_NEWEST = 20
_READY = frozenset({StudyState.ENCODED, StudyState.INDEXED})
_WHICH_STUDY = frozenset({"study", "StudyInstanceUID"})
_ASKED_ANEW = _WHICH_STUDY | {"anatomy", "offset"}
_PICTURE_PX = 2 * THUMBNAIL_PX
_FORM = f"accept=image/png&viewport={_PICTURE_PX},{_PICTURE_PX}"


@blueprint.get("/")
def start() -> Response:
    """The newest studies, or with ``?find=…`` those of an accession number, patient ID or date.

    An anonymous reference finds its study too, and patients are named as ``sidebar_shows`` allows; neither holds for a
    browser that came with a sidebar's token.
    """
    catalogue = services().catalogue
    text = (parameters.one("find") or "").strip()
    studies = finding.found(
        text,
        catalogue,
        services().settings,
        by=audit.caller(),
        by_reference=context_rights.context() is None,
        most=_NEWEST,
    )
    audit.note_listed([study.study_uid for study in studies])
    return _page(
        "start.html",
        counts=catalogue.overview(audit.caller().scope).studies,
        studies=studies,
        find=text,
        most=_NEWEST,
        states=StudyState,
        ready=_READY,
        named="patient" in services().settings.sidebar_shows and context_rights.context() is None,
        ohif=ohif.is_installed(services().settings),
    )


@blueprint.get("/developers")
def developers() -> Response:
    """The addresses of this service, for those who write programs."""
    return _page("developers.html")


@blueprint.get("/favicon.ico")
def icon() -> Response:
    """The icon of the pages, which browsers also look for here."""
    return current_app.send_static_file("icon.svg")


@blueprint.app_template_filter("person_name")
def person_name(name: str | None) -> str:
    """A person name (PS3.5 6.2.1.2) as people write it: family name, then the rest."""
    family, *rest = (name or "").split("=")[0].split("^")
    given = " ".join(part for part in rest if part)
    return f"{family}, {given}" if given else family


@blueprint.get("/studies/<study>")
def study(study: str) -> Response:
    """One study: its state and the regions that can be asked about."""
    found = services().catalogue.studies.get(study)
    return _page(
        "study.html",
        study=found,
        picture=f"{BASE}/studies/{study}/rendered?{_FORM}",
        ready=found.state in _READY,
        ohif=ohif.is_installed(services().settings),
        **_asking(study),
        chosen=anatomy.ROOT,
    )


@blueprint.get("/similar")
def similar() -> Response:
    """``/similar?StudyInstanceUID=…&anatomy=…``: the query's picture and the cases like it; takes its filters."""
    study_uid = parameters.one("study") or parameters.one("StudyInstanceUID") or ""
    if not is_valid_uid(study_uid):
        raise BadInput("StudyInstanceUID is not a UID (PS3.5 9.1)")
    query, notices = query_of(study_uid, own=filters.OWN | _WHICH_STUDY, in_words=True)
    answer = services().searcher.similar(query, audit.caller())
    spoken = language.current()
    return _page(
        "similar.html",
        answer=answer,
        study=query,
        notices=[spoken.notice(notice) for notice in (*notices, *answer.notices)],
        query_picture=shown_of(answer.query_sop_uid, asked_place(answer)),
        cases=[(case, shown_of(case.sop_uid, place_of(case, answer)), *_notes(case)) for case in answer.cases],
        offers=[] if answer.cases else services().searcher.nearest(query, audit.caller()),
        form=_FORM,
        **_asking(study_uid),
        chosen=query.region,
        kept=[pair for pair in request.args.items(multi=True) if pair[0] not in _ASKED_ANEW],
        kept_without_finding={
            name: values for name, values in request.args.lists() if name not in _ASKED_ANEW | {filters.FINDING}
        },
    )


def _asking(study_uid: str) -> dict[str, object]:
    """What the forms offer: regions to choose, and names of regions and findings to type, in the reader's language."""
    spoken, groups = language.current(), choices(services().catalogue, study_uid)
    names = [spoken.region(region.key) for _, regions in groups for region in regions]
    names += [spoken.finding(key) for key in language.offered_findings()]
    return {"choices": groups, "offered": names}


def _notes(case: SimilarCase) -> tuple[list[str], list[str]]:
    """What the two reports share and where they differ, each finding once."""
    return _words(case.shared), _words(case.contradicting)


def _words(notes: Iterable[FindingNote]) -> list[str]:
    spoken = language.current()
    written = []
    for note in notes:
        finding = spoken.finding(note.concept)
        said = spoken.say("denied", finding=finding) if note.polarity == "absent" else finding
        written.append(said + (f" ({spoken.severity(note.severity)})" if note.severity else ""))
    return list(dict.fromkeys(written))


def _page(template: str, **values: object) -> Response:
    response = make_response(
        render_template(
            template,
            base=BASE,
            base_url=services().base_url,
            version=__version__,
            sidebar=not services().settings.sidebar_context_tokens,  # otherwise only a token of the PACS opens it
            **values,
        )
    )
    response.vary.add("Accept")
    return response
