"""The comparison of the paper (arXiv 2503.04653): 39 metrics per kind of image, 78 with both, between any models.

(9 regions + their mean) x Recall@3/5/10 = 30 of image-to-image retrieval per region; by whole images,
Recall@5/10/50/100 of image-to-image and of image-to-report retrieval, and NDCG@10 of image-to-image retrieval = 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from radir_pacs.anatomy import ROOT
from radir_pacs.types import ImageKind

from .exam import IMAGE_TO_IMAGE, IMAGE_TO_REPORT, region_name
from .examine import Cell, CellKey, Results
from .measures import KS, MEASURES
from .resample import percentiles

MEAN = "mean"
REGION_KS, WHOLE_KS, NDCG_K = (3, 5, 10), (5, 10, 50, 100), 10
WIN, TIE, LOSS = "win", "tie", "loss"


class Metric(NamedTuple):
    """``region``: a key, ROOT for whole images, or MEAN of the compared regions."""

    direction: str
    region: str
    measure: str
    k: int

    @property
    def title(self) -> str:
        what = {"recall": "Recall", "ndcg": "NDCG"}[self.measure] + f"@{self.k}"
        if self.region == MEAN:
            return f"mean of the regions {what}"
        where = "whole image" if self.region == ROOT else region_name(self.region)
        arrow = " to report" if self.direction == IMAGE_TO_REPORT else ""
        return f"{where}{arrow} {what}"


def metrics(regions: Sequence[str]) -> tuple[Metric, ...]:
    """30 + 9 for nine regions; fewer for fewer regions, and no mean for one."""
    means = (MEAN,) if len(regions) > 1 else ()
    found = [Metric(IMAGE_TO_IMAGE, region, "recall", k) for region in (*regions, *means) for k in REGION_KS]
    found += [Metric(way, ROOT, "recall", k) for way in (IMAGE_TO_IMAGE, IMAGE_TO_REPORT) for k in WHOLE_KS]
    return (*found, Metric(IMAGE_TO_IMAGE, ROOT, "ndcg", NDCG_K))


def needed(regions: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The (direction, region) pairs that these metrics need."""
    within = [(IMAGE_TO_IMAGE, region) for region in regions]
    return (*within, (IMAGE_TO_IMAGE, ROOT), (IMAGE_TO_REPORT, ROOT))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value with its 95 % interval; None without a query."""

    value: float | None
    interval_95: tuple[float, float] | None

    @classmethod
    def of(cls, value: Any, draws: Any) -> Figure:
        if not np.isfinite(value):
            return cls(value=None, interval_95=None)
        low, high = percentiles(draws)
        return cls(value=round(float(value), 4), interval_95=(round(float(low), 4), round(float(high), 4)))


def below(value: float | None, random: float | None) -> bool:
    """Whether a figure is worse than that of a random order."""
    return value is not None and random is not None and value < random


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Ours minus theirs on the same queries, paired in every draw. ``clear``: the interval of the difference excludes
    zero."""

    outcome: str
    difference: Figure
    clear: bool


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric: the number of ``queries`` in the mean, the random line, the upper bound, each model, ours against
    each."""

    kind: ImageKind
    metric: Metric
    queries: int
    random: float | None
    oracle: float | None
    models: Mapping[str, Figure]
    against: Mapping[str, PairedComparison]


def rows(
    results: Results,
    kind: ImageKind,
    regions: Sequence[str],
    names: Sequence[str],
    *,
    source: str,
    queries: str,
) -> Iterator[MetricRow]:
    """The table of one kind; the first of ``names`` is ours."""
    ours, *others = names
    mean = results.mean(source, queries, IMAGE_TO_IMAGE, regions)  # unused with one region
    for metric in metrics(regions):
        key = CellKey(source, queries, metric.direction, metric.region)
        cell = mean if metric.region == MEAN else results.cells[key]
        at = MEASURES.index(metric.measure), KS.index(metric.k)
        yield MetricRow(
            kind=kind,
            metric=metric,
            queries=int(cell.random.queries[at]),
            random=Figure.of(cell.random.mean[at], cell.random.draws[:, *at]).value,
            oracle=None if np.isnan(cell.oracle[at]) else round(float(cell.oracle[at]), 4),
            models={name: Figure.of(cell.models[name].mean[at], cell.models[name].draws[:, *at]) for name in names},
            against={other: _paired(cell, ours, other, at) for other in others},
        )


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two models with identical image-to-image figures at ``regions`` (keys, ROOT the whole image) of one kind: values
    and intervals in every table. ``everywhere``: at all regions. ``vectors``: because their vectors are identical
    there."""

    kind: ImageKind
    models: tuple[str, str]
    regions: tuple[str, ...]
    everywhere: bool
    vectors: bool


def twins(
    table: Sequence[MetricRow], names: Sequence[str], same_vectors: Callable[[str, str, str], bool]
) -> tuple[Twins, ...]:
    """Those among the rows of one kind; ``same_vectors`` compares two models at a region."""
    by_region: dict[str, list[MetricRow]] = {}
    for row in table:
        if row.metric.region != MEAN and row.metric.direction == IMAGE_TO_IMAGE and row.queries:
            by_region.setdefault(row.metric.region, []).append(row)
    found = []
    for one, other in combinations(names, 2):
        same = tuple(
            key for key, rows in by_region.items() if all(row.models[one] == row.models[other] for row in rows)
        )
        if same:
            found.append(
                Twins(
                    kind=table[0].kind,
                    models=(one, other),
                    regions=same,
                    everywhere=len(same) == len(by_region),
                    vectors=all(same_vectors(one, other, key) for key in same),
                )
            )
    return tuple(found)


def _paired(cell: Cell, ours: str, other: str, at: tuple[int, int]) -> PairedComparison:
    mine, theirs = cell.models[ours], cell.models[other]
    difference = Figure.of(mine.mean[at] - theirs.mean[at], mine.draws[:, *at] - theirs.draws[:, *at])
    if difference.value is None or abs(mine.mean[at] - theirs.mean[at]) < 1e-9 or difference.interval_95 is None:
        return PairedComparison(outcome=TIE, difference=difference, clear=False)
    low, high = difference.interval_95
    won = bool(mine.mean[at] > theirs.mean[at])
    return PairedComparison(outcome=WIN if won else LOSS, difference=difference, clear=low > 0 if won else high < 0)


def tally(table: Sequence[MetricRow], other: str) -> dict[str, int]:
    """wins, ties and losses against one opponent, and how many of them are clear."""
    comparisons = [row.against[other] for row in table]
    return {
        "wins": sum(paired.outcome == WIN for paired in comparisons),
        "ties": sum(paired.outcome == TIE for paired in comparisons),
        "losses": sum(paired.outcome == LOSS for paired in comparisons),
        "clear_wins": sum(paired.outcome == WIN and paired.clear for paired in comparisons),
        "clear_losses": sum(paired.outcome == LOSS and paired.clear for paired in comparisons),
        "of": len(comparisons),
    }


def row_json(row: MetricRow) -> dict[str, Any]:
    """Stable keys, as docs/reference/evaluation.md lists them."""

    def lift(value: float | None) -> float | None:
        return round(value / row.random, 3) if value is not None and row.random else None

    return {
        "kind": row.kind.value,
        "direction": row.metric.direction,
        "region": row.metric.region,
        "measure": row.metric.measure,
        "k": row.metric.k,
        "queries": row.queries,
        "random": row.random,
        "best": row.oracle,
        "models": {name: {**_figure(figure), "lift": lift(figure.value)} for name, figure in row.models.items()},
        "against": {
            other: {"outcome": paired.outcome, "clear": paired.clear, "difference": _figure(paired.difference)}
            for other, paired in row.against.items()
        },
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "interval_95": figure.interval_95 and list(figure.interval_95)}
