"""What the sidebar asks: regions, how a study stands, and the cases like it as a stream of JSON lines.

Rights are a setting (``sidebar_shows``); of another patient no name, identifier or date leaves by these routes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, jsonify, stream_with_context

from radir_pacs import anatomy
from radir_pacs.errors import BadInput
from radir_pacs.reports import read_typed
from radir_pacs.reports.typed import TYPED_CHARACTERS
from radir_pacs.types import CatalogueStudy, ImageKind, SimilarCaseList, StudyState, modalities_of_kind
from radir_pacs.web import context_rights
from radir_pacs.web.dicomweb import parameters
from radir_pacs.web.dicomweb.similar import query_of
from radir_pacs.web.services import services

from .cases import case_row, excerpt_row, pictures
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
    return jsonify({"kind": kind, "regions": [region | {"known": region["key"] in known} for region in _regions(kind)]})


def _known(study: str, kind: ImageKind) -> set[str]:
    catalogue = services().catalogue
    model = catalogue.models.active(kind)
    encoding = catalogue.encodings.get(study, model.model_id) if model else None
    return set(encoding.regions) if encoding else set()


@blueprint.get("/api/typed")
def typed() -> Response:
    """``?text=…&kind=CXR``: the region, and the finding if any, that a person means. Raises UnknownRegion."""
    text = parameters.one("text") or ""
    if len(text) > TYPED_CHARACTERS:
        raise BadInput("the text is too long")
    read = read_typed(text, _kind())
    finding = {"concept": read.concept, "present": read.present} if read.concept else None
    return jsonify({"region": read.region.key, "name": read.region.name, "finding": finding})


@blueprint.get("/api/studies/<study>")
def study(study: str) -> Response:
    """Where a study stands, what can be asked of it and what may be shown."""
    context = services()
    found = context.catalogue.studies.get(study)
    kinds = [kind for _, kind in context.catalogue.encodings.models_of_study(study)]
    shown = set(context.settings.sidebar_shows)
    done = found.state is StudyState.INDEXED
    answer = {
        "study": study,
        "state": found.state,
        "reason": found.reason,
        "step": _STEPS.index(found.state) + 1 if found.state in _STEPS else None,
        "steps": len(_STEPS),
        "jobs_before": 0 if done else context.catalogue.jobs.before(study),
        "instances": found.instance_count,
        "modalities": found.modalities,
        "kinds": kinds,
        "modalities_of_kinds": {kind: sorted(modalities_of_kind(kind)) for kind in ImageKind},
        "replaced": done and not kinds,  # indexed under a model that answers no more
        "report": bool(context.catalogue.reports.of_study(study)),
        "patient": found.patient_name if "patient" in shown else None,
        "shows": sorted(shown),
        "destination": bool(context.settings.return_destination),
        "ohif": is_installed(context.settings),
    }
    return jsonify(answer)


@blueprint.get("/api/studies/<study>/similar")
def similar(study: str) -> Response:
    """The similar-case query as JSON lines: a head, the cases by rank, their reports' words, an end.

    Takes what the DICOMweb query takes.
    """
    query, notes = query_of(study)
    context = services()
    answer = context.searcher.similar(query)
    lines = _lines(answer, context.catalogue.studies.get(study), notes)
    response = Response(stream_with_context(lines), content_type=ND_JSON)
    response.headers["Cache-Control"] = "no-store"
    return response


def _lines(answer: SimilarCaseList, asking: CatalogueStudy, notes: list[str]) -> Iterator[str]:
    head = {
        "type": "head",
        "region_asked": {"key": answer.region_asked.key, "name": answer.region_asked.name},
        "region_answered": {"key": answer.region_answered.key, "name": answer.region_answered.name},
        "query": pictures(asking.study_uid, answer.query_series_uid, answer.query_sop_uid, answer.region_answered.key),
        "model": answer.model_id,
        "generation": answer.generation,
        "as_of": answer.as_of.isoformat(),
        "exact": answer.exact,
        "count": len(answer.cases),
        "candidates": answer.query.offset + len(answer.cases) + answer.more,
        "finding": answer.query.filters.finding,
        "warnings": [*notes, *(text for text in answer.warnings if not _tells_the_parent(text, answer))],
    }
    yield _line(head)
    held = context_rights.context()
    if held is not None:
        services().catalogue.contexts.show(held, [case.study.study_uid for case in answer.cases])
    for case in answer.cases:
        yield _line({"type": "case", **case_row(case, answer, asking)})
    for case in answer.cases:
        found = excerpt_row(case, answer)
        if found is not None:
            yield _line({"type": "excerpt", "rank": case.rank, **found})
    yield _line({"type": "end"})


def _tells_the_parent(warning: str, answer: SimilarCaseList) -> bool:
    """The panel sees from the two regions that a parent answered, and says so in the reader's language."""
    asked, answered = answer.region_asked, answer.region_answered
    return asked != answered and warning.startswith(asked.name) and warning.endswith(f"from {answered.name}")


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


@lru_cache
def _regions(kind: ImageKind) -> list[dict[str, Any]]:
    return [
        {
            "key": region.key,
            "name": region.name,
            "parent": region.parent,
            "synonyms": region.synonyms,
            # A volume has all heights: the frontal view tells them apart, one of its slices would not.
            "outline": [[round(x, 4), round(y, 4)] for x, y in anatomy.outline(region.key, ImageKind.CXR)],
        }
        for region in anatomy.regions(kind)
    ]
