"""An evaluation as one page: nothing from outside, no script; what a person looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from html import escape

import numpy as np

from radir_pacs.anatomy import ROOT

from ..data.studies import StudySet
from .compare import Figure
from .evaluation import MEAN, NOTE, REGION_KS, WHOLE_KS, Evaluation
from .exam import DIRECTIONS, IMAGE_TO_IMAGE, region_name
from .examine import ABNORMAL
from .pictures import picture
from .plots import bars, curves
from .regions import LEAST_QUERIES
from .rows import PictureRow, picture_rows
from .statements_text import agreement, findings
from .tables import JUDGES, QUERIES

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
h1{margin-bottom:.2rem}h2{margin-top:2.4rem;border-top:1px solid #ddd;padding-top:1rem}
.note{background:#fff6df;border-left:4px solid #e0a100;padding:.5rem .9rem;margin:1rem 0}
.bad{background:#fde8e2;border-left-color:#c65b3c}
.big{font-size:2.3rem;font-weight:600;line-height:1.1}.grey{color:#666}
.cards{display:flex;gap:1.2rem;flex-wrap:wrap}.card{border:1px solid #ddd;border-radius:8px;padding:.8rem 1.1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
td,th{padding:.16rem .6rem;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}
tr.mean td{font-weight:600;border-top:2px solid #999}
details{margin:.6rem 0}summary{cursor:pointer;font-weight:600}
.row{display:flex;gap:.6rem;overflow-x:auto;padding:.5rem 0 1rem}
figure{margin:0;flex:none;font-size:12px;line-height:1.35}figure img{display:block;border-radius:4px;height:190px}
figure.query img{outline:3px solid #2f6db3}figcaption{margin-top:.3rem;width:0;min-width:100%}
.yes{color:#1d7a3a}.no{color:#b3401f}img.plot{max-width:100%}
@media (prefers-color-scheme:dark){body{background:#15181b;color:#e4e4e4}.note{background:#3a3115}
.bad{background:#48251c}img.plot{background:#fff;border-radius:6px}td,th,h2,.card{border-color:#3a3f44}.grey{color:#a5a5a5}.yes{color:#7fd195}
.no{color:#ff9d7d}}
"""


def page(found: Sequence[Evaluation], *, on: str, seed: int) -> str:
    """The whole document; ``on``: what it was judged on. ``seed`` draws the queries that are shown."""
    title = f"Evaluation of {escape(found[0].model)}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{title}</title><style>{_CSS}</style></head><body>",
        f'<h1>{title}</h1><p class="note">{NOTE}</p>',
        f'<p class="grey">Judged on {escape(on)}, draws of seed {seed}, {date.today().isoformat()}.</p>',
        "<p>A query asks for studies of other patients that are alike at a region. Most regions of most patients are "
        "normal, and any order finds another normal one: the figures that count are over queries whose region is "
        "abnormal. Beside each stands what a random order would score, and the 95 % interval over patients.</p>",
    ]
    for one in found:
        parts += _kind(one, seed)
    return "".join(parts) + "</body></html>\n"


def _kind(found: Evaluation, seed: int) -> Iterator[str]:
    exam = found.exam
    yield f"<h2>{found.kind}</h2>"
    if found.model_id is not None:
        yield f"<p>Model <code>{escape(found.model_id)}</code></p>"
    yield f"<p>{len(exam)} images of {found.patients} patients, "
    yield f"{len(exam.texts)} reports; every query is asked of the whole gallery of other patients.</p>"
    if found.collapsed:
        yield '<p class="note bad">This model has collapsed: within a region all its vectors are nearly the same.</p>'
    if not found.has_text_tower:
        yield '<p class="note">No text tower: between images and reports it scores the random line.</p>'
    headline = next(found.sets(), None)
    if headline is None:
        return
    yield from _cards(found, *headline)
    yield from _plots(found, *headline)
    yield from _pictures(found, seed)
    yield "<h3>All figures</h3>"
    for source, queries in found.sets():
        for direction in DIRECTIONS:
            yield from _table(found, source, queries, direction)


def _cards(found: Evaluation, source: str, queries: str) -> Iterator[str]:
    yield '<div class="cards">'
    for direction, region, k in ((IMAGE_TO_IMAGE, MEAN, 5), (IMAGE_TO_IMAGE, ROOT, 10), (DIRECTIONS[1], ROOT, 10)):
        cell = found.cell(source, queries, direction, region)
        if cell is None:
            continue
        one = found.scored(cell, "recall", k)
        what = "mean over regions" if region == MEAN else "whole image"
        yield f'<div class="card"><div class="grey">Recall@{k}, {escape(direction.replace("-", " to "))}, {what}</div>'
        yield f'<div class="big">{_number(one.figure.value)}</div><div>{_interval(one.figure)}</div>'
        yield f'<div class="grey">random {_number(one.random)}, lift {_number(one.lift, 2)}, '
        yield f"{one.queries} queries ({escape(QUERIES[queries])})</div></div>"
    if found.cosines:
        mean = float(np.mean(list(found.cosines.values())))
        yield f'<div class="card"><div class="grey">mean cosine within a region</div><div class="big">{mean:.3f}</div>'
        yield "<div>near 1, a model tells nobody apart</div></div>"
    yield "</div>"


def _plots(found: Evaluation, source: str, queries: str) -> Iterator[str]:
    mean = found.cell(source, queries, IMAGE_TO_IMAGE, MEAN)
    if mean is not None:
        yield f"<h3>Mean over {len(found.judged)} regions</h3>"
        for measure in ("recall", "ndcg", "ratescore"):
            yield _plot(curves(found, mean, measure), f"{measure} over k: model, random line and upper bound")
        scored = []
        for key in found.judged:
            cell = found.cell(source, queries, IMAGE_TO_IMAGE, key)
            if cell is not None:
                one = found.scored(cell, "recall", 5)
                scored.append((key, one.figure, one.random))
        scored.sort(key=lambda row: -(row[1].value or 0))
        yield "<h3>By region</h3><p>Black strokes are the random line, thin lines the 95 % interval; red: not above "
        yield f"random. {escape(QUERIES[queries].capitalize())}.</p>"
        yield _plot(bars(scored, "Recall@5"), "Recall@5 of each region")
    for direction in DIRECTIONS:
        cell = found.cell(source, queries, direction, ROOT)
        if cell is not None and (direction == IMAGE_TO_IMAGE or found.has_text_tower):
            yield f"<h3>Whole image: {escape(direction.replace('-', ' to '))}</h3>"
            yield _plot(curves(found, cell, "recall", WHOLE_KS), "Recall over k")
            yield _plot(curves(found, cell, "ndcg", WHOLE_KS), "NDCG over k")


def _pictures(found: Evaluation, seed: int) -> Iterator[str]:
    data = found.exam.studies
    if data is None or found.vectors is None:
        return
    yield "<h3>Queries and what came first</h3><p>Drawn at random among abnormal queries, not picked. cos: what the "
    yield "model says; S: how alike the reports are at the region. The outline is schematic.</p>"
    last = None
    if not found.shown:
        yield f"<p>No region has the {LEAST_QUERIES} abnormal queries that a judgement takes: there are no pictures, "
        yield "and no mean over regions. More patients would bring them.</p>"
    for row in picture_rows(found.exam, found.vectors, found.shown, seed=seed):
        if row.region != last:
            yield f"<h4>{escape(region_name(row.region))}</h4>"
            last = row.region
        yield from _picture_row(data, row)


def _picture_row(data: StudySet, row: PictureRow) -> Iterator[str]:
    asked = data.said[row.query]
    yield f'<div class="row"><figure class="query"><img alt="query" src="{picture(data, row.query, row.region)}">'
    yield f"<figcaption><b>query</b><br>{escape('; '.join(findings(asked, row.region)))}</figcaption></figure>"
    for number, (case, cosine, alike) in enumerate(row.cases, start=1):
        both = agreement(asked, data.said[case], row.region)
        yield f'<figure><img alt="similar study {number}" src="{picture(data, case)}"><figcaption>'
        yield f"<b>{number}</b> cos {cosine:.2f}, S {alike:.2f}"
        if both.shared:
            yield f'<br><span class="yes">shared: {escape("; ".join(both.shared))}</span>'
        if both.contradicting:
            yield f'<br><span class="no">contradicts: {escape("; ".join(both.contradicting))}</span>'
        if not both.shared:
            there = "; ".join(findings(data.said[case], row.region)) or "nothing found"
            yield f"<br>there: {escape(there)}"
        yield "</figcaption></figure>"
    yield "</div>"


def _table(found: Evaluation, source: str, queries: str, direction: str) -> Iterator[str]:
    title = f"{direction.replace('-', ' to ')}: {QUERIES[queries]}, {JUDGES[source]}"
    yield f"<details{' open' if queries == ABNORMAL and direction == IMAGE_TO_IMAGE else ''}><summary>{escape(title)}"
    yield "</summary><table><tr><th>region</th><th>queries</th>"
    yield "".join(f"<th>R@{k}</th><th>random</th>" for k in (3, *REGION_KS[1:4]))
    yield "<th>lift R@5</th><th>NDCG@10</th><th>random</th><th>S@10</th><th>random</th><th>best</th></tr>"
    for region in (*found.regions(direction), MEAN):
        cell = found.cell(source, queries, direction, region)
        if cell is None or not cell.random.queries.any():
            continue
        name = "mean of the judged regions" if region == MEAN else region_name(region)
        recall = [found.scored(cell, "recall", k) for k in (3, *REGION_KS[1:4])]
        ndcg, rate = found.scored(cell, "ndcg", 10), found.scored(cell, "ratescore", 10)
        yield f"<tr{' class=mean' if region == MEAN else ''}><td>{escape(name)}</td><td>{recall[1].queries}</td>"
        for one in recall:
            yield f'<td title="{_interval(one.figure)}">{_number(one.figure.value)}</td>'
            yield f'<td class="grey">{_number(one.random)}</td>'
        yield f"<td>{_number(recall[1].lift, 2)}</td><td>{_number(ndcg.figure.value)}</td>"
        yield f'<td class="grey">{_number(ndcg.random)}</td><td>{_number(rate.figure.value)}</td>'
        yield f'<td class="grey">{_number(rate.random)}</td><td class="grey">{_number(rate.oracle)}</td></tr>'
    yield "</table></details>"


def _plot(address: str, words: str) -> str:
    return f'<img class="plot" alt="{escape(words)}" src="{address}">'


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(figure: Figure) -> str:
    return "" if figure.interval_95 is None else "95 % interval {:.3f} to {:.3f}".format(*figure.interval_95)
