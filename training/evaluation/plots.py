"""Plots of an evaluation as SVG images embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.ticker import ScalarFormatter

from .compare import Figure
from .evaluation import REGION_KS, Evaluation
from .exam import region_name
from .examine import Cell

MODEL, RANDOM, BEST, MISSED = "#2f6db3", "#8a8a8a", "#b9d7b4", "#c65b3c"
TITLES = {"recall": "Recall@k", "ndcg": "NDCG@k", "ratescore": "RateScore@k"}


def curves(found: Evaluation, cell: Cell, measure: str, ks: Sequence[int] = REGION_KS) -> str:
    """A measure over k: the model with its interval, the random line, the upper bound."""
    plot = Plot(figsize=(4.2, 2.9), layout="constrained")
    axes = plot.subplots()
    scored = [(k, found.scored(cell, measure, k)) for k in ks]
    known = [(k, one.figure.value, one.figure.interval_95, one) for k, one in scored]
    rows = [
        (k, value, *edges, one.random or 0.0, one.oracle or 0.0)
        for k, value, edges, one in known
        if value is not None and edges is not None
    ]
    places, values, low, high, random, oracle = (
        (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 6
    )
    axes.plot(places, oracle, color=BEST, linewidth=2, label="upper bound")
    axes.plot(places, values, color=MODEL, marker="o", markersize=4, label="model")
    axes.fill_between(places, low, high, color=MODEL, alpha=0.2)
    axes.plot(places, random, color=RANDOM, linestyle="--", label="random")
    axes.set(xscale="log", ylim=(0, 1.03), xlabel="k", ylabel=TITLES[measure])
    axes.set_xticks(places, labels=[str(k) for k in places])
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    return _address(plot, axes)


def bars(rows: Sequence[tuple[str, Figure, float | None]], title: str) -> str:
    """(region, figure, random line) as horizontal bars with intervals; a region at or below its random line is red."""
    plot = Plot(figsize=(8.6, 0.9 + 0.24 * len(rows)), layout="constrained")
    axes = plot.subplots()
    for place, (_, figure, random) in enumerate(rows):
        if figure.value is None or figure.interval_95 is None:
            continue
        low, high = figure.interval_95
        color = MISSED if random is not None and figure.value <= random else MODEL
        axes.barh(place, figure.value, color=color, height=0.7)
        axes.plot([low, high], [place, place], color="#222", linewidth=1.2)
        if random is not None:
            axes.plot([random, random], [place - 0.4, place + 0.4], color="#000", linewidth=2)
    axes.set_yticks(range(len(rows)), labels=[region_name(key) for key, _, _ in rows], fontsize=8)
    axes.set(xlim=(0, 1.02), xlabel=title, ylim=(len(rows) - 0.4, -0.6))
    return _address(plot, axes)


def _address(plot: Plot, axes: Axes) -> str:
    axes.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    plot.savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()
