"""The similar-case query: study rows or the structured report, depending on what the request accepts.

``GET studies/{study}/similar?anatomy=…`` and, the QIDO way, ``GET studies?similarto={study}&anatomy=…``. POST stores
the report in the study, where WADO finds it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pydicom
from flask import Blueprint, Response
from pydicom.dataset import Dataset

from radir_pacs import anatomy
from radir_pacs.delivery.dicom_json import similar_cases_rows
from radir_pacs.delivery.report import report_of
from radir_pacs.dicom.loop_guard import is_own_object
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput, RoleMayNot, StorageFailed
from radir_pacs.query.notices import worded
from radir_pacs.reports.typed import place_named, several
from radir_pacs.similar_cases import Notice, NoticeCode, Query, SimilarCaseList, WeightedRegion, Words, WordsOf
from radir_pacs.web import audit, language
from radir_pacs.web.services import services

from . import filters, page_mark, parameters, pseudonyms
from .accept import DICOM, DICOM_JSON, EXPLICIT_LITTLE, JSON, choose, multipart
from .datasets import XML_PARTS, datasets_response
from .json_model import Attributes, warn, warn_of_more
from .multipart import MultipartWriter, OutgoingPart
from .native_xml import MEDIA_TYPE as DICOM_XML
from .qido import search_studies

blueprint = Blueprint("similar", __name__)

SOURCE = "similar"
_OFFERS = (DICOM_JSON, JSON, DICOM, multipart(DICOM), XML_PARTS, DICOM_XML)


@blueprint.get("/studies")
def studies() -> Response:
    """QIDO-RS search for studies; with ``similarto``, those similar to one."""
    study = parameters.one("similarto")
    if study is None:
        return search_studies()
    if not is_valid_uid(study):
        raise BadInput("similarto is not a UID (PS3.5 9.1)")
    return _answer(study, store=False)


@blueprint.get("/studies/<study>/similar")
def similar(study: str) -> Response:
    """Cases similar to a study in a region (`anatomy`): rows, or the report for `Accept: application/dicom`."""
    return _answer(study, store=False)


@blueprint.post("/studies/<study>/similar")
def store_similar(study: str) -> Response:
    """Like GET, and store the report in the study."""
    return _answer(study, store=True)


def query_of(study: str, *, own: frozenset[str] = filters.OWN, in_words: bool = False) -> tuple[Query, list[Notice]]:
    """The query in the current request's parameters, and notices on how they were read. Raises BadInput.

    ``anatomy`` is one region in words, or several with weights: ``left pleura:2,heart``. ``own`` names the parameters
    that are not matching keys. ``words`` order the cases most alike in that region, or in the one they name, and
    ``wordsof`` says whether they are of a region or of a finding; refused unless ``in_words``, where an answer is
    judged, trained on or reported as likeness in a region.
    """
    after = page_mark.read(parameters.one(page_mark.PARAMETER))
    if after is not None and parameters.one("offset"):
        raise BadInput(f"{page_mark.PARAMETER} says where the page begins: leave offset out")
    words = _in_words()
    if words and not in_words:
        raise BadInput("a question in words is answered by rows, over DICOMweb: ask for a region, without words")
    where = parameters.one("anatomy") or (place_named(words.text).key if words else anatomy.ROOT)
    asked = [(language.read(text), weight) for text, weight in several(where, "anatomy")]
    if words and (len(asked) > 1 or after is not None):
        raise BadInput("in words one region is asked about, and a page is counted off by offset")
    settings = services().settings
    wanted, unused = filters.requested(own)
    if wanted.finding is None:
        wanted = replace(wanted, finding=next((read.affirmed for read, _ in asked if read.affirmed), None))
    (first, weight), *others = asked
    query = Query(
        study_uid=study,
        region=first.region.key,
        weight=weight,
        also=tuple(WeightedRegion(key=read.region.key, weight=weight) for read, weight in others),
        limit=parameters.count("limit", settings.result_limit, low=1, high=settings.result_limit_max),
        offset=parameters.count("offset", 0, high=parameters.OFFSET_MAX),
        after=after,
        filters=wanted,
        words=words,
    )
    notices = [read.notice for read, _ in asked if read.notice]
    notices += [Notice(code=NoticeCode.FILTER_IGNORED, values={"keyword": keyword}) for keyword in unused]
    return query, notices


def _in_words() -> Words | None:
    """The question in words, where there is one. Raises BadInput."""
    text, of = parameters.one(filters.WORDS), parameters.one(filters.WORDS_OF) or WordsOf.REGION.value
    if text is None:
        return None
    if of not in list(WordsOf):
        raise BadInput(f"wordsof is {' or '.join(WordsOf)}")
    try:
        return Words(text=text, of=WordsOf(of))
    except ValueError as error:
        raise BadInput(str(error)) from None


def _answer(study: str, *, store: bool) -> Response:
    offer, _ = choose(_OFFERS)
    if not audit.caller().knows_persons and (store or offer in (DICOM, multipart(DICOM))):
        raise RoleMayNot("the report names the patient: this token is answered by rows")
    query, notices = query_of(study, in_words=not store and offer not in (DICOM, multipart(DICOM)))
    context = services()
    answer = context.searcher.similar(query, audit.caller())
    response = _response(answer, offer, store) if answer.cases else Response(status=204)
    response.headers["Vary"] = "Accept, Accept-Language"  # anatomy is read in the reader's language
    for notice in (*notices, *answer.notices):
        warn(response, context.base_url, worded(notice))
    warn_of_more(response, context.base_url, answer.more)
    if answer.following is not None:
        response.headers.add("Link", f'<{page_mark.address_of(answer.following)}>; rel="next"')
    return response


def _response(answer: SimilarCaseList, offer: str, store: bool) -> Response:
    context = services()
    report = None
    if store or offer in (DICOM, multipart(DICOM)):
        report = report_of(answer, context.catalogue, context.settings, predecessor=_predecessor(answer))
    if report is None or offer not in (DICOM, multipart(DICOM)):
        rows = _rows(answer)
        response = datasets_response([partial(dict, row) for row in rows], offer)
    else:
        response = _as_dicom(report, offer)
    if store and report is not None:
        _store(report)
        response.status_code = 201
        response.headers["Location"] = _url_of(report)
    return response


def stored_report(answer: SimilarCaseList) -> tuple[Dataset, str]:
    """The report of ``answer``, kept in its study, and its URL. Raises StorageFailed."""
    context = services()
    report = report_of(answer, context.catalogue, context.settings, predecessor=_predecessor(answer))
    _store(report)
    return report, _url_of(report)


def _predecessor(answer: SimilarCaseList) -> Dataset | None:
    """The newest stored report of ours on the same study and region, which this one follows (PS3.3 C.17.2.2)."""
    context = services()
    mark = f"region={answer.region_answered.key}"
    own = [
        instance
        for instance in context.catalogue.instances.of_study(answer.query.study_uid)
        if not instance.rows_px and is_own_object(instance.attributes) and _holds(instance.attributes, mark)
    ]
    if not own:
        return None
    newest = max(own, key=lambda instance: instance.received_at)
    return pydicom.dcmread(context.blobs.intact(newest.content_sha256))


def _holds(attributes: Mapping[str, Any], text: str) -> bool:
    """Whether an algorithm parameter of the content tree reads so (PS3.16 TID 4019)."""
    values = (value for found in attributes.values() for value in found.get("Value", ()))
    return any(_holds(value, text) if _is_item(value) else value == text for value in values)


def _is_item(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(found, dict) for found in value.values())


def _bytes_of(report: Dataset) -> bytes:
    with io.BytesIO() as file:
        report.save_as(file, enforce_file_format=True)
        return file.getvalue()


def _rows(answer: SimilarCaseList) -> list[Attributes]:
    """A row per case by rank; it names its patient where the caller's role says so."""
    context = services()
    rows = similar_cases_rows(answer, context.base_url)
    if audit.caller().names:
        return rows
    cases = sorted(answer.cases, key=lambda case: case.rank)
    return [pseudonyms.of_study(case.study, row, context.settings) for case, row in zip(cases, rows, strict=True)]


def _as_dicom(report: Dataset, offer: str) -> Response:
    content_type = f"{DICOM}; transfer-syntax={EXPLICIT_LITTLE}"
    if offer == DICOM:
        return Response(_bytes_of(report), content_type=content_type)
    writer = MultipartWriter([OutgoingPart(content_type=content_type, body=_bytes_of(report))], DICOM)
    return Response(iter(writer), content_type=writer.content_type)


def _store(report: Dataset) -> None:
    """Keep ``report`` like any other instance of its study. Raises StorageFailed."""
    context = services()
    with context.blobs.incoming() as incoming:
        incoming.write(_bytes_of(report))
        outcome = context.intake.store(incoming, source=SOURCE)
    if not outcome.ok:
        raise StorageFailed(f"the report was not stored: {outcome.reason}")
    audit.note_stored([report.StudyInstanceUID])


def _url_of(report: Dataset) -> str:
    return (
        f"{services().base_url}/studies/{report.StudyInstanceUID}"
        f"/series/{report.SeriesInstanceUID}/instances/{report.SOPInstanceUID}"
    )
