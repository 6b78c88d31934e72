"""QIDO-RS: studies, series and instances, each level alone or inside the ones above (PS3.18 10.6)."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Response

from radir_pacs.catalogue.qido import QidoLevel, QidoQuery, QidoRow
from radir_pacs.delivery.dicom_json import study_row
from radir_pacs.dicom.bulk_data import without_bulk_data
from radir_pacs.web import audit, context_rights
from radir_pacs.web.services import services

from . import parameters, pseudonyms
from .datasets import choose_datasets, datasets_response
from .json_model import Attributes, ascending, warn, warn_of_more
from .rows import FROM_HEADER, instance_attributes, level_of_tag, series_attributes

blueprint = Blueprint("qido", __name__)

_NAMED = 10  # of the parameters that were ignored
OWN = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept"})


def search_studies() -> Response:
    """Studies that match (QIDO-RS)."""
    return _answer(QidoLevel.STUDY)


@blueprint.get("/series")
def all_series() -> Response:
    """Search for series of all studies (QIDO-RS)."""
    return _answer(QidoLevel.SERIES)


@blueprint.get("/instances")
def all_instances() -> Response:
    """Search for instances of all studies (QIDO-RS)."""
    return _answer(QidoLevel.INSTANCE)


@blueprint.get("/studies/<study>/series")
def series_of_study(study: str) -> Response:
    """Search for series of a study (QIDO-RS)."""
    return _answer(QidoLevel.SERIES, study)


@blueprint.get("/studies/<study>/instances")
def instances_of_study(study: str) -> Response:
    """Search for instances of a study (QIDO-RS)."""
    return _answer(QidoLevel.INSTANCE, study)


@blueprint.get("/studies/<study>/series/<series>/instances")
def instances_of_series(study: str, series: str) -> Response:
    """Search for instances of a series (QIDO-RS)."""
    return _answer(QidoLevel.INSTANCE, study, series)


def _answer(level: QidoLevel, study: str | None = None, series: str | None = None) -> Response:
    form = choose_datasets()
    context = services()
    most = context.settings.qido_limit_max
    matches = parameters.matches(OWN)
    asking = audit.caller()
    if not asking.knows_persons:
        pseudonyms.require_no_person(matches)
    wanted, everything = parameters.included()
    wanted |= {match.path[0] for match in matches}  # a matching key is a return key (PS3.18 10.6.3.3)
    query = QidoQuery(
        level=level,
        limit=parameters.count("limit", most, high=most),
        offset=parameters.count("offset", 0, high=parameters.OFFSET_MAX),
        study_uid=study or context_rights.only_study(),
        series_uid=series,
        matches=matches,
        fuzzy=parameters.flag("fuzzymatching"),
        tags=None if everything else wanted | (FROM_HEADER if level > QidoLevel.STUDY else frozenset()),
        scope=asking.scope,
    )
    page = context.catalogue.qido.search(query)
    if study is None:
        audit.note_listed([row.study.study_uid for row in page.rows])
    if page.rows:
        response = datasets_response([partial(_row, row, query, wanted, everything) for row in page.rows], form)
    else:
        response = Response(status=204)
    response.headers["Vary"] = "Accept"
    _warn_of_unknown(response)
    warn_of_more(response, context.base_url, page.more, is_exact=page.is_exact)
    return response


def _warn_of_unknown(response: Response) -> None:
    """One header whatever was asked: clients and proxies refuse an answer with a hundred of them."""
    if names := list(parameters.unknown(OWN)):
        shown = ", ".join(names[:_NAMED]) + (" and others" if len(names) > _NAMED else "")
        warn(response, services().base_url, f"ignored, since they are not keys to search by: {shown}")


def _row(row: QidoRow, query: QidoQuery, wanted: frozenset[str], everything: bool) -> Attributes:
    base_url = services().base_url
    if not audit.caller().knows_persons:
        return pseudonyms.of_study(row.study, study_row(row.study, base_url), services().settings)
    attributes = {
        tag: value
        for tag, value in without_bulk_data(row.attributes).items()
        if (everything or tag in wanted) and level_of_tag(tag) <= query.level
    }
    if query.study_uid is None or query.level is QidoLevel.STUDY or everything:
        attributes |= study_row(row.study, base_url)
    if row.series is not None and (query.series_uid is None or query.level is QidoLevel.SERIES or everything):
        attributes |= series_attributes(row, base_url)
    if row.instance is not None:
        attributes |= instance_attributes(row, base_url)
    return ascending(attributes)
