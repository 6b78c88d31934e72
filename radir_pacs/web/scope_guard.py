"""Studies outside the caller's scope do not exist for it: the same answer as for a study that is nowhere.

Searches apply the scope inside (`Searcher`, QIDO). Here are the requests that name a study: in the path, or by the
parameter that `_NAMING` lists. A route that learns of a study in another way asks `require` or `admitted` itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask, request

from radir_pacs.callers import Role
from radir_pacs.errors import Conflict, NotFound
from radir_pacs.scopes import Withheld

from .audit import caller, is_known
from .services import services

_NAMING = {
    "similar.studies": {"similarto"},
    "pages.similar": {"study", "studyinstanceuid"},
    "viewer.sidebar": {"studyinstanceuid"},
    "sidebar.slices": {"case"},
    "sidebar.regions": {"study"},
}  # by endpoint, in lower case
_MAY_BE_NEW = frozenset({"stow.store", "studies.pull"})  # `require_may_store` decides for the first
# To those who may not know persons, an image is shown when a model compares it: any other one may show a name.
_IMAGES = frozenset({"rendered.rendered_instance", "rendered.rendered_frame", "rendered.thumbnail_instance"})


def install(app: Flask) -> None:
    """Refuse requests to ``app`` about studies that their caller may not see."""

    @app.before_request
    def check() -> None:
        if request.method == "OPTIONS" or not is_known():
            return
        asked = request.view_args or {}
        parameters = _NAMING.get(request.endpoint or "", set())
        named = {request.args[name] for name in request.args if name.lower() in parameters}
        if "study" in asked and request.endpoint not in _MAY_BE_NEW:
            named.add(str(asked["study"]))
        require(*named)
        if request.endpoint in _IMAGES and not _may_see_persons():
            uids = [str(asked[name]) for name in ("study", "series", "instance")]
            if not services().catalogue.encodings.is_compared(*uids):
                raise NotFound("this token sees the images that were compared, and no others")
        if request.endpoint == "studies.pull":
            _require_may_pull(str(asked["study"]))


def require(*study_uids: str) -> None:
    """Raise NotFound where the caller is restricted and one of the studies is outside, or nowhere."""
    missing = sorted(set(study_uids) - admitted(study_uids)) if study_uids else ()
    if missing:
        raise NotFound(f"there is no study {missing[0]}")


def _require_may_pull(study_uid: str) -> None:
    """The same for a study that may be yet to come: it will be of the site that the PACS stands for."""
    scope, context = caller().scope, services()
    if not scope.restricts or context.catalogue.studies.in_scope([study_uid], scope):
        return
    if _is_here(study_uid) or not scope.admits_sites([context.settings.pull_site]):
        raise NotFound(f"there is no study {study_uid}")


def require_may_store(study_uid: str) -> None:
    """Raise Conflict where the caller is confined and may not add to the study: nobody looks into one by adding to it.

    A feed goes on for patients who are withheld from its token.
    The words fit into an Error Comment (LO, 64 characters).
    """
    scope = caller().scope
    if not scope.confines:
        return
    if len(scope.sites) > 1:
        raise Conflict("this token is of several sites: store with a token of one site")
    if not services().catalogue.studies.in_scope([study_uid], scope.seeing(Withheld.FROM_ALL)) and _is_here(study_uid):
        raise Conflict("the study is of another site, or out of this token's scope")


def _is_here(study_uid: str) -> bool:
    try:
        services().catalogue.studies.get(study_uid)
    except NotFound:
        return False
    return True


def admitted(study_uids: Sequence[str]) -> frozenset[str]:
    """Those of some studies that the caller may see; all of them where it is not restricted."""
    scope = caller().scope
    return services().catalogue.studies.in_scope(study_uids, scope) if scope.restricts else frozenset(study_uids)


def _may_see_persons() -> bool:
    return caller().knows_persons or caller().role is Role.SIDEBAR  # whose images `context_rights` has checked
