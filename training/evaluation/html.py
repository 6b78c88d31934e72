"""An evaluation as one page: nothing from outside, no script; what a person looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import groupby
from typing import Any

import numpy as np

from radir_pacs.anatomy import ROOT
from radir_pacs.printable import counted

from ..data.studies import StudySet
from ..pages import rendered
from .compare import below
from .evaluation import MEAN, NOTE, REGION_KS, WHOLE_KS, Evaluation
from .exam import DIRECTIONS, IMAGE_TO_IMAGE, region_name
from .examine import ABNORMAL
from .pictures import picture
from .plots import bars, curves
from .regions import LEAST_QUERIES
from .rows import PictureRow, picture_rows
from .statements_text import agreement, findings
from .tables import JUDGES, QUERIES

TABLE_KS = (3, *REGION_KS[1:4])


def page(found: Sequence[Evaluation], *, on: str, seed: int) -> str:
    """The whole document; ``on``: what it was judged on. ``seed`` draws the queries that are shown."""
    return rendered(
        "evaluation.html",
        title=f"Evaluation of {found[0].model}",
        note=NOTE,
        on=on,
        seed=seed,
        today=date.today().isoformat(),
        below=below,
        least_queries=LEAST_QUERIES,
        kinds=[_kind(one, seed) for one in found],
    )


def _kind(found: Evaluation, seed: int) -> dict[str, Any]:
    headline = next(found.sets(), None)
    shows = headline is not None and found.exam.studies is not None and found.vectors is not None
    return {
        "kind": found.kind,
        "model_id": found.model_id,
        "images": len(found.exam),
        "patients": found.patients,
        "reports": len(found.exam.texts),
        "collapsed": found.collapsed,
        "has_text_tower": found.has_text_tower,
        "only_region": region_name(found.judged[0]) if len(found.judged) == 1 else "",
        "cards": list(_cards(found, *headline)) if headline else [],
        "cosine": float(np.mean(list(found.cosines.values()))) if headline and found.cosines else None,
        "plots": list(_plots(found, *headline)) if headline else [],
        "has_pictures": shows,
        "pictures": list(_pictures(found, seed)) if shows else [],
        "tables": [
            _table(found, source, queries, direction) for source, queries in found.sets() for direction in DIRECTIONS
        ],
    }


def _cards(found: Evaluation, source: str, queries: str) -> Iterator[dict[str, Any]]:
    within = found.judged[0] if len(found.judged) == 1 else MEAN
    for direction, region, k in ((IMAGE_TO_IMAGE, within, 5), (IMAGE_TO_IMAGE, ROOT, 10), (DIRECTIONS[1], ROOT, 10)):
        cell = found.cell(source, queries, direction, region)
        if cell is not None:
            yield {
                "k": k,
                "direction": _arrow(direction),
                "where": {MEAN: "mean over regions", ROOT: "whole image"}.get(region) or region_name(region),
                "scored": found.scored(cell, "recall", k),
                "queries": QUERIES[queries],
            }


def _plots(found: Evaluation, source: str, queries: str) -> Iterator[dict[str, Any]]:
    within = found.judged[0] if len(found.judged) == 1 else MEAN
    cell = found.cell(source, queries, IMAGE_TO_IMAGE, within)
    if cell is not None:
        yield {
            "title": f"Mean over {counted(len(found.judged), 'region')}"
            if within == MEAN
            else region_name(within).capitalize(),
            "text": "",
            "plots": [
                {
                    "address": curves(found, cell, measure),
                    "words": f"{measure} over k: model, random line and upper bound",
                }
                for measure in ("recall", "ndcg", "ratescore")
            ],
        }
    if within == MEAN and cell is not None:
        scored = []
        for key in found.judged:
            of_region = found.cell(source, queries, IMAGE_TO_IMAGE, key)
            if of_region is not None:
                one = found.scored(of_region, "recall", 5)
                scored.append((key, one.figure, one.random))
        scored.sort(key=lambda row: -(row[1].value or 0))
        yield {
            "title": "By region",
            "text": "Black strokes are the random line, thin lines the 95 % interval; red: not above random. "
            f"{QUERIES[queries].capitalize()}.",
            "plots": [{"address": bars(scored, "Recall@5"), "words": "Recall@5 of each region"}],
        }
    for direction in DIRECTIONS:
        whole = found.cell(source, queries, direction, ROOT)
        if whole is not None and (direction == IMAGE_TO_IMAGE or found.has_text_tower):
            yield {
                "title": f"Whole image: {_arrow(direction)}",
                "text": "",
                "plots": [
                    {"address": curves(found, whole, "recall", WHOLE_KS), "words": "Recall over k"},
                    {"address": curves(found, whole, "ndcg", WHOLE_KS), "words": "NDCG over k"},
                ],
            }


def _pictures(found: Evaluation, seed: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of each region."""
    data = found.exam.studies
    if data is None or found.vectors is None:
        return
    rows = picture_rows(found.exam, found.vectors, found.shown, seed=seed)
    for region, members in groupby(rows, key=lambda row: row.region):
        yield region_name(region), [_picture_row(data, row) for row in members]


def _picture_row(data: StudySet, row: PictureRow) -> dict[str, Any]:
    asked = data.said[row.query]
    cases = []
    for case, cosine, alike in row.cases:
        both = agreement(asked, data.said[case], row.region)
        cases.append(
            {
                "image": picture(data, case),
                "cosine": cosine,
                "alike": alike,
                "shared": "; ".join(both.shared),
                "contradicting": "; ".join(both.contradicting),
                "there": "; ".join(findings(data.said[case], row.region)) or "nothing found",
            }
        )
    return {
        "image": picture(data, row.query, row.region),
        "findings": "; ".join(findings(asked, row.region)),
        "cases": cases,
    }


def _table(found: Evaluation, source: str, queries: str, direction: str) -> dict[str, Any]:
    rows = []
    for region in (*found.regions(direction), MEAN):
        cell = found.cell(source, queries, direction, region)
        if cell is None or not cell.random.queries.any():
            continue
        rows.append(
            {
                "is_mean": region == MEAN,
                "name": "mean of the judged regions" if region == MEAN else region_name(region),
                "recall": [found.scored(cell, "recall", k) for k in TABLE_KS],
                "ndcg": found.scored(cell, "ndcg", 10),
                "rate": found.scored(cell, "ratescore", 10),
            }
        )
    return {
        "title": f"{_arrow(direction)}: {QUERIES[queries]}, {JUDGES[source]}",
        "open": queries == ABNORMAL and direction == IMAGE_TO_IMAGE,
        "ks": TABLE_KS,
        "rows": rows,
    }


def _arrow(direction: str) -> str:
    return direction.replace("-", " to ")
