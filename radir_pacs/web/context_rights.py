"""What a browser with a sidebar's token may do: see one study, and what was compared of the cases like it.

Of a case it sees the radiograph that was compared, or the slices of that CT series, as pictures: no other image of the
study, which may show a name, and no header. It saves reports and judgements of its own study, so many and no more.
Whatever is not named here is refused, so a new route is closed to such a browser until somebody opens it.

Where somebody is signed in with the same browser, the page that was opened last decides. A link that was opened acts as
the link, and in its reader's name: the person who signed in hours ago at a shared desk is perhaps somebody else. A page
of the person's own ends the link in that browser. What the link's page itself asks for says so (`HEADER`), and is never
answered by the rights of the session.
"""

from __future__ import annotations

from typing import cast

from flask import g, request

from radir_pacs.callers import Caller, Role
from radir_pacs.catalogue import Catalogue, ViewerContext
from radir_pacs.errors import NotFound, NotInThisLink
from radir_pacs.scopes import Scope

from . import error_page

COOKIE = "radir_context"
HEADER, PARAMETER = "X-Radir-Link", "link"  # the second in addresses of pictures, with which no page sends headers
PAGE = "/sidebar"

# Endpoints by subject. A route that names a study serves only the token's own.
_ABOUT_NO_STUDY = frozenset({"sidebar.regions", "sidebar.findings", "sidebar.typed", "viewer.sidebar", "static"})
_ABOUT_ITS_STUDY = frozenset(
    {
        "qido.series_of_study",
        "qido.instances_of_study",
        "qido.instances_of_series",
        "wado.retrieve",
        "wado.retrieve_instance",
        "wado.retrieve_frames",
        "metadata.metadata",
        "metadata.metadata_of_instance",
        "metadata.bulk_data",
        "rendered.rendered",
        "rendered.thumbnail",
        "handover.job",
        "sidebar.study",
        "sidebar.similar",
        "judgements.judge",
        "judgements.judged",
        "judgements.report",
    }
)
_NARROWED = frozenset({"similar.studies", "qido.all_series", "qido.all_instances"})  # searched inside its study
_PICTURES = frozenset(
    {
        "rendered.rendered_instance",
        "rendered.rendered_frame",
        "rendered.thumbnail_instance",
    }
)
_SHOWN = _PICTURES | {"rendered.rendered", "rendered.thumbnail"}
_REACHED = _ABOUT_NO_STUDY | _ABOUT_ITS_STUDY | _NARROWED | _PICTURES | {"sidebar.slices"}
_READER_CHARACTERS = 59
_BROWSER = "link:"  # before the name of a reader whom no PACS vouched for: it never equals that of a signed-in reader


def is_meant() -> bool:
    """Whether the link that this browser opened acts here, whoever is signed in with it."""
    if is_meant_alone():
        return True
    if request.path == PAGE:
        return "context" in request.args
    return COOKIE in request.cookies and request.endpoint in _REACHED


def is_meant_alone() -> bool:
    """Whether the link's own page asks: where the link has ended, no session answers in its place."""
    return HEADER in request.headers or (PARAMETER in request.args and request.endpoint in _SHOWN)


def of_link(address: str) -> str:
    """The address of a picture, or its parameters, as the page that asks may use it: a link's for no session's."""
    return f"{address}&{PARAMETER}=1" if context() is not None else address


def is_left() -> bool:
    """Whether whoever is signed in opens a page of the own, in a browser that had opened a link."""
    return COOKIE in request.cookies and error_page.prefers_html() and not is_meant()


def enter(catalogue: Catalogue) -> bool:
    """Whether the request bears a valid sidebar token; `context` then returns it.

    A link that is being opened wins over the cookie of an earlier one, which may have expired or name another study.
    """
    token = (request.args.get("context") if request.path == PAGE else None) or request.cookies.get(COOKIE)
    if not token or len(token) > 100:
        return False
    try:
        g.radir_context = catalogue.contexts.get(token)
    except NotFound:
        return False
    return True


def context() -> ViewerContext | None:
    """What the sidebar token of the current request opens; None where a service token, or none, was needed."""
    return cast("ViewerContext | None", g.get("radir_context"))


def may(catalogue: Catalogue) -> bool:
    """Whether the token that `enter` found admits the current request; call it only after `enter` returned True."""
    held, endpoint = context(), request.endpoint or ""
    if held is None:
        return False
    asked = request.view_args or {}
    study = asked.get("study")
    if endpoint in _PICTURES and study != held.study_uid:
        return catalogue.contexts.shows(held, str(study), str(asked["series"]), str(asked["instance"]))
    if endpoint == "sidebar.slices":
        case, series = request.args.get("case") or study, request.args.get("series") or ""
        return study == held.study_uid and (case == study or catalogue.contexts.shows(held, str(case), series))
    if endpoint in _ABOUT_ITS_STUDY | _PICTURES:
        return bool(study == held.study_uid)
    if endpoint == "sidebar.regions":
        return request.args.get("study", held.study_uid) == held.study_uid
    if endpoint == "similar.studies" and "similarto" in {name.lower() for name in request.args}:
        return False  # its rows name patients
    # Not among those reached: where somebody is signed in, their own page asks.
    return endpoint in _NARROWED or endpoint in _ABOUT_NO_STUDY or endpoint == "emergency.offered"


def caller(name: str, address: str) -> Caller:
    """Whoever holds the token that `enter` found; ``name``: of a reader whom the PACS did not name."""
    held = context()
    scope = held.scope if held is not None else Scope()
    return Caller(name=reader(name), role=Role.SIDEBAR, address=address, scope=scope, names=False)


def link() -> str:
    """By what requests with the token that `enter` found are counted: whoever makes many links is not slowed by one."""
    held = context()
    return held.token_sha256 if held is not None else ""


def only_study() -> str | None:
    """The study that a search is confined to; None where it is not."""
    held = context()
    return held.study_uid if held is not None else None


def require_own(study_uid: str) -> None:
    """Raise NotInThisLink where a sidebar's token let the request in and the study is not the token's own."""
    if only_study() not in (None, study_uid):
        raise NotInThisLink


def require_room_for_a_report(catalogue: Catalogue, source: str) -> None:
    """Raise TooLarge where a sidebar's token let the request in and has saved as many reports as it may."""
    held = context()
    if held is not None:
        catalogue.contexts.check_reports(held, source)


def require_may_judge(catalogue: Catalogue, case_uid: str) -> None:
    """Raise where a sidebar's token let the request in: NotInThisLink for a case that it was not shown, TooLarge when
    it has judged as often as it may."""
    held = context()
    if held is None:
        return
    if not catalogue.contexts.shows(held, case_uid):
        raise NotInThisLink
    catalogue.contexts.check_judgements(held)


def reader(given: str) -> str:
    """The judging reader: the account that is signed in, the name that the PACS gave when it requested the token, else
    one for the browser."""
    held = context()
    if held is None:
        return cast(str, g.get("radir_reader", given))
    return held.reader or f"{_BROWSER}{given[:_READER_CHARACTERS]}"
