"""Tables for the terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from .collapse import COLLAPSED
from .compare import LOSS, TIE, WIN, Figure, PairedComparison, Row
from .contest import NOTE, Contest
from .evaluation import MEAN, Evaluation
from .exam import DIRECTIONS, region_name

WIDTH = 160  # of a table that goes into a file
MARKS = {WIN: "+", TIE: "=", LOSS: "-"}
QUERIES = {"abnormal": "queries whose region is abnormal", "all": "all queries"}
JUDGES = {"mined": "judged by the reports", "true": "judged by the true findings"}


def console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def show_contest(found: Contest) -> None:
    """All tables, the headline first, and the count of wins last."""
    out = console()
    for queries in ("abnormal", "all"):
        for source in ("mined", "true"):
            if (source, queries) in found.tables:
                title = f"{QUERIES[queries]}, {JUDGES[source]}"
                out.print(_contest_table(found, found.tables[source, queries], title))
    out.print(f"+ win, = tie, - loss of {found.names[0]}; *: the paired 95 % interval of the difference bears it out")
    for name in found.by_chance:
        out.print(f"{name} has no text tower: from image to report it scores the random line")
    out.print(NOTE)
    for (source, queries), table in sorted(found.tables.items(), key=lambda item: item[0] == ("mined", "abnormal")):
        for other, tally in found.tallies(source, queries).items():
            out.print(
                f"{QUERIES[queries]}, {JUDGES[source]}: against {other}, {found.names[0]} wins {tally['wins']} of "
                f"{len(table)} ({tally['clear_wins']} clearly), {tally['ties']} ties, {tally['losses']} losses",
                highlight=False,
            )


def _contest_table(found: Contest, rows: tuple[Row, ...], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("metric")
    for name in ("queries", "random", "best", *found.names):
        table.add_column(name, justify="right")
    for number, row in enumerate(rows):
        if number and row.kind is not rows[number - 1].kind:
            table.add_section()
        ours, *others = found.names
        cells = [figure_text(row.models[ours])]
        cells += [f"{_value(row.models[other].value)} {_mark(row.against[other])}" for other in others]
        table.add_row(
            row.kind.value, row.metric.title, str(row.queries), _value(row.random), _value(row.oracle), *cells
        )
    return table


def figure_text(figure: Figure) -> str:
    if figure.interval_95 is None:
        return "–"
    low, high = figure.interval_95
    return f"{_value(figure.value)} [{_value(low)}, {_value(high)}]".replace("[", "\\[")


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _mark(paired: PairedComparison) -> str:
    return MARKS[paired.outcome] + ("*" if paired.clear else " ")


def show_evaluation(found: Evaluation) -> None:
    """The headline by region and direction first, then all queries."""
    out = console()
    out.print(f"\n{found.model} on {found.kind}: {len(found.exam)} images", highlight=False)
    if found.collapsed:
        out.print("This model has collapsed: within a region all its vectors are nearly the same.")
    for source, queries in found.sets():
        for direction in DIRECTIONS:
            out.print(_evaluation_table(found, source, queries, direction))
    if found.cosines:
        mean = sum(found.cosines.values()) / len(found.cosines)
        out.print(f"mean cosine of two studies within a region: {mean:.3f} (collapsed above {COLLAPSED})")
    if not found.has_text_tower:
        out.print(f"{found.model} has no text tower: between images and reports it scores the random line")
    out.print(NOTE)


def _evaluation_table(found: Evaluation, source: str, queries: str, direction: str) -> Table:
    title = f"{found.kind} {direction.replace('-', ' to ')}: {QUERIES[queries]}, {JUDGES[source]}"
    table = Table(title=title, title_justify="left")
    table.add_column("region")
    for name in ("queries", "R@5", "random", "lift", "R@10", "random", "NDCG@10", "random", "S@10", "random", "best"):
        table.add_column(name, justify="right")
    for region in (*found.regions(direction), MEAN):
        cell = found.cell(source, queries, direction, region)
        if cell is None or (region != MEAN and not cell.models[found.model].queries.any()):
            continue
        five, ten = found.scored(cell, "recall", 5), found.scored(cell, "recall", 10)
        ndcg, rate = found.scored(cell, "ndcg", 10), found.scored(cell, "ratescore", 10)
        if region == MEAN:
            table.add_section()
        table.add_row(
            "mean of the judged regions" if region == MEAN else region_name(region),
            str(five.queries),
            figure_text(five.figure),
            _value(five.random),
            "–" if five.lift is None else f"{five.lift:.2f}",
            _value(ten.figure.value),
            _value(ten.random),
            _value(ndcg.figure.value),
            _value(ndcg.random),
            _value(rate.figure.value),
            _value(rate.random),
            _value(rate.oracle),
        )
    return table
