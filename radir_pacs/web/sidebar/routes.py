"""What the sidebar asks: regions and findings, the state of a study, and the cases like it as a stream of JSON lines.

Rights are a setting (``sidebar_shows``). Of another patient no name, identifier or date leaves by these routes, unless
a report says it and the setting allows whole reports. Words are in the reader's language (``lang``, Accept-Language).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, jsonify, stream_with_context

from radir_pacs import anatomy
from radir_pacs.dicom.uids import is_valid_uid
from radir_pacs.errors import BadInput
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.typed import TYPED_CHARACTERS
from radir_pacs.similar_cases import Notice, Offer, SimilarCaseList
from radir_pacs.types import CatalogueStudy, ImageKind, StudyState, modalities_of_kind
from radir_pacs.web import audit, context_rights, language
from radir_pacs.web.dicomweb import parameters
from radir_pacs.web.dicomweb.similar import query_of
from radir_pacs.web.services import BASE, services

from .cases import PICTURE, asked_place, case_row, excerpt_row, pictures, slices_of, window_parameter
from .ohif import is_installed

blueprint = Blueprint("sidebar", __name__)

ND_JSON = "application/x-ndjson"
_STEPS = (StudyState.RECEIVING, StudyState.STABLE, StudyState.ENCODED, StudyState.INDEXED)


@blueprint.get("/api/regions")
def regions() -> Response:
    """``?kind=CXR&study=…``: the regions such images show, parents first, with what the picture of a chest needs.

    Known are those that the study has vectors for; without a study, those that our models are trained for.
    """
    kind, study = _kind() or ImageKind.CXR, parameters.one("study")
    known = {region.key for region in anatomy.trained(kind)} if study is None else _known(study, kind)
    rows = [region | {"known": region["key"] in known} for region in _regions(kind, language.current().tag)]
    return jsonify({"kind": kind, "regions": rows})


@blueprint.get("/api/findings")
def findings() -> Response:
    """The findings that can be asked for, each with other words for it and the region where it is looked for."""
    return jsonify({"findings": _findings(language.current().tag)})


def _known(study: str, kind: ImageKind) -> set[str]:
    catalogue = services().catalogue
    model = catalogue.models.serving(kind)
    encoding = catalogue.encodings.get(study, model.model_id) if model else None
    return set(encoding.regions) if encoding else set()


@blueprint.get("/api/typed")
def typed() -> Response:
    """``?text=…&kind=CXR``: the region, and the finding if any, that a person means. Raises UnknownRegion."""
    text = parameters.one("text") or ""
    if len(text) > TYPED_CHARACTERS:
        raise BadInput("the text is too long")
    read = language.read(text, _kind())
    finding = {"concept": read.concept, "present": read.present} if read.concept else None
    return jsonify({"region": read.region.key, "name": language.current().region(read.region.key), "finding": finding})


@blueprint.get("/api/studies/<study>")
def study(study: str) -> Response:
    """A study's state, what can be asked about it and what may be shown."""
    context = services()
    found = context.catalogue.studies.get(study)
    kinds = [kind for _, kind in context.catalogue.encodings.models_of_study(study)]
    shown = set(context.settings.sidebar_shows)
    done = found.state is StudyState.INDEXED
    if not done or not kinds:
        context.catalogue.jobs.hurry(study)
    failed = context.catalogue.reencoding.failed(study) if done and not kinds else None
    answer = {
        "study": study,
        "state": found.state,
        "reason": failed.error if failed else found.reason,
        "step": _STEPS.index(found.state) + 1 if found.state in _STEPS else None,
        "steps": len(_STEPS),
        "jobs_before": _jobs_before(study, settled=bool(done and kinds)),
        "instances": found.instance_count,
        "modalities": found.modalities,
        "kinds": kinds,
        "modalities_of_kinds": {kind: sorted(modalities_of_kind(kind)) for kind in ImageKind},
        "replaced": done and not kinds and failed is None,  # the model that serves by now has yet to encode it
        "failed": failed.reason_code if failed else None,  # why the model that serves by now could not
        "report": bool(context.catalogue.reports.of_study(study)),
        "patient": found.patient_name if "patient" in shown and audit.caller().knows_persons else None,
        "shows": sorted(shown),
        "destination": bool(context.settings.return_destination),
        "ohif": is_installed(context.settings),
    }
    return jsonify(answer)


def _jobs_before(study: str, *, settled: bool) -> int | None:
    """None: those who see a part of the archive do not learn how much the others send."""
    if audit.caller().scope.confines:
        return None
    return 0 if settled else services().catalogue.jobs.before(study)


@blueprint.get("/api/studies/<study>/similar")
def similar(study: str) -> Response:
    """The similar-case query as JSON lines: a head, the cases by rank, their reports' words, an end.

    Takes what the DICOMweb query takes, except words: readers judge these cases as alike in the region.
    """
    query, notices = query_of(study)
    context = services()
    answer = context.searcher.similar(query, audit.caller())
    if (held := context_rights.context()) is not None:
        context.catalogue.contexts.show(held, [case.study.study_uid for case in answer.cases])
    lines = _lines(answer, context.catalogue.studies.get(study), notices)
    response = Response(stream_with_context(lines), content_type=ND_JSON)
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/api/studies/<study>/similar/slices")
def slices(study: str) -> Response:
    """``?case=…&series=…&region=…``: the slices of a CT, from head to feet, of the study itself or of a case like it.

    ``study`` is the one that the sidebar reads. The pictures are where ``instances/{uid}/rendered?{rendering}`` says.
    """
    case, series = parameters.one("case") or study, parameters.one("series") or ""
    if not (is_valid_uid(case) and is_valid_uid(series)):
        raise BadInput("case and series are UIDs (PS3.5 9.1)")
    window = anatomy.ct_window(anatomy.region(parameters.one("region") or anatomy.ROOT).key)
    ordered = slices_of(case, series)
    return jsonify(
        {
            "instances": ordered,
            "base": f"{BASE}/studies/{case}/series/{series}/instances",
            "rendering": context_rights.of_link(f"{PICTURE}{window_parameter(window)}"),
        }
    )


def _lines(answer: SimilarCaseList, asking: CatalogueStudy, notices: Sequence[Notice]) -> Iterator[str]:
    spoken = language.current()
    offers = () if answer.cases else services().searcher.nearest(answer.query, audit.caller())
    head = {
        "type": "head",
        "region_asked": _named(answer.region_asked.key),
        "region_answered": _named(answer.region_answered.key),
        "query": pictures(answer.query_sop_uid, asked_place(answer)) | {"series": answer.query_series_uid},
        "model": answer.model_id,
        "generation": answer.generation,
        "as_of": answer.as_of.isoformat(),
        "exact": answer.exact,
        "count": len(answer.cases),
        "candidates": answer.query.offset + len(answer.cases) + answer.more,
        "finding": answer.query.filters.finding,
        "notices": [{"code": notice.code, "text": spoken.notice(notice)} for notice in (*notices, *answer.notices)],
        "offers": [_offer(offer) for offer in offers],
    }
    yield _line(head)
    for case in answer.cases:
        yield _line({"type": "case", **case_row(case, answer, asking)})
    for case in answer.cases:
        found = excerpt_row(case, answer)
        if found is not None:
            yield _line({"type": "excerpt", "rank": case.rank, **found})
    yield _line({"type": "end"})


def _named(region: str) -> dict[str, str]:
    return {"key": region, "name": language.current().region(region)}


def _offer(offer: Offer) -> dict[str, Any]:
    spoken = language.current()
    finding = {"key": offer.finding, "name": spoken.finding(offer.finding)} if offer.finding else None
    return {"region": _named(offer.region), "finding": finding, "candidates": offer.candidates}


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def _kind() -> ImageKind | None:
    text = parameters.one("kind")
    if text is None:
        return None
    try:
        return ImageKind(text.upper())
    except ValueError:
        raise BadInput("kind is CXR or CT") from None


@lru_cache(maxsize=8)
def _regions(kind: ImageKind, tag: str) -> list[dict[str, Any]]:
    spoken = language.language(tag)
    return [
        {
            "key": region.key,
            "name": spoken.region(region.key),
            "parent": region.parent,
            "synonyms": _other_words(spoken, "regions", region.key, (region.name, *region.synonyms)),
            # A volume has all heights: the frontal view tells them apart, one of its slices would not.
            "outline": [[round(x, 4), round(y, 4)] for x, y in anatomy.outline(region.key, ImageKind.CXR)],
        }
        for region in anatomy.regions(kind)
    ]


@lru_cache(maxsize=8)
def _findings(tag: str) -> list[dict[str, Any]]:
    spoken, concepts = language.language(tag), load().concepts
    return [
        {
            "key": key,
            "name": spoken.finding(key),
            "region": concepts[key].at,
            "synonyms": _other_words(spoken, "findings", key, (key.replace("_", " "), *concepts[key].terms)),
        }
        for key in language.offered_findings()
    ]


def _other_words(spoken: language.Language, table: str, key: str, english: tuple[str, ...]) -> list[str]:
    """Words that are understood besides the name: other words of the language, and the English ones."""
    name = spoken.region(key) if table == "regions" else spoken.finding(key)
    return [words for words in dict.fromkeys((*spoken.other_words(table, key), *english)) if words != name]
