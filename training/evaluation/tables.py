"""Tables for the terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from radir_pacs.anatomy import ROOT
from radir_pacs.printable import counted

from .collapse import COLLAPSED
from .compare import LOSS, TIE, WIN, Figure, MetricRow, PairedComparison, below
from .contest import NOTE, Contest
from .evaluation import MEAN, Evaluation
from .exam import DIRECTIONS, region_name

WIDTH = 160  # of a table that goes into a file
BELOW = "↓"
MARKS = {WIN: "+", TIE: "=", LOSS: "-"}
QUERIES = {"abnormal": "queries whose region is abnormal", "all": "all queries"}
JUDGES = {"mined": "judged by the reports", "true": "judged by the true findings"}


def console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def show_contest(found: Contest) -> None:
    """All tables, the headline first, and the count of wins last."""
    out = console()
    for source, queries in ordered(found):
        title = f"{QUERIES[queries]}, {JUDGES[source]}"
        out.print(_contest_table(found, found.tables[source, queries], title))
    out.print(legend(found))
    for line in notes(found):
        out.print(line, highlight=False)
    out.print(NOTE)
    for (source, queries), table in sorted(found.tables.items(), key=lambda item: item[0] == ("mined", "abnormal")):
        for other, tally in found.tallies(source, queries).items():
            out.print(
                f"{QUERIES[queries]}, {JUDGES[source]}: against {other}, {found.names[0]} wins {tally['wins']} of "
                f"{len(table)} ({tally['clear_wins']} clearly), {tally['ties']} ties, {tally['losses']} losses",
                highlight=False,
            )


def ordered(found: Contest) -> list[tuple[str, str]]:
    """(judge, queries) of the tables, the headline first."""
    return [
        (source, queries)
        for queries in ("abnormal", "all")
        for source in ("mined", "true")
        if (source, queries) in found.tables
    ]


def legend(found: Contest) -> str:
    return (
        f"+ win, = tie, - loss of {found.names[0]}; *: the paired 95 % interval of the difference does not hold zero; "
        f"{BELOW}: below a random order"
    )


def notes(found: Contest) -> list[str]:
    """Remarks on the figures."""
    lines = [f"{name} has no text tower: from image to report it scores the random line" for name in found.by_chance]
    for one in found.twins:
        what = "have identical vectors" if one.vectors else "score identically"
        named = ("the whole image" if key == ROOT else region_name(key) for key in one.regions)
        where = "everywhere" if one.everywhere else f"at {', '.join(named)}"
        lines.append(f"{one.models[0]} and {one.models[1]} {what} {where}, {one.kind} image to image")
    for kind, about in found.data.items():
        if len(about["regions"]) == 1:
            (name,) = about["regions"].values()
            lines.append(f"{kind} is compared at one region, {name}: there is no mean over regions")
    if found.held_out:
        lines.append("judged only by patients that no model says it was trained on")
    return lines


def _contest_table(found: Contest, rows: tuple[MetricRow, ...], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("metric")
    for name in ("queries", "random", "best", *found.names):
        table.add_column(name, justify="right")
    for number, row in enumerate(rows):
        if number and row.kind is not rows[number - 1].kind:
            table.add_section()
        ours, *others = found.names
        cells = [figure_text(row.models[ours], row.random)]
        cells += [f"{_marked(row.models[other].value, row.random)} {_mark(row.against[other])}" for other in others]
        table.add_row(
            row.kind.value, row.metric.title, str(row.queries), _value(row.random), _value(row.oracle), *cells
        )
    return table


def figure_text(figure: Figure, random: float | None = None) -> str:
    if figure.interval_95 is None:
        return "–"
    low, high = figure.interval_95
    return f"{_marked(figure.value, random)} [{_value(low)}, {_value(high)}]".replace("[", "\\[")


def _marked(value: float | None, random: float | None) -> str:
    """The value, marked where it is below that of a random order."""
    return _value(value) + (BELOW if below(value, random) else "")


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _mark(paired: PairedComparison) -> str:
    return MARKS[paired.outcome] + ("*" if paired.clear else " ")


def show_evaluation(found: Evaluation) -> None:
    """The headline by region and direction first, then all queries."""
    out = console()
    out.print(f"\n{found.model} on {found.kind}: {counted(len(found.exam), 'image')}", highlight=False)
    if found.collapsed:
        out.print("This model has collapsed: within a region all its vectors are nearly the same.")
    for source, queries in found.sets():
        for direction in DIRECTIONS:
            out.print(_evaluation_table(found, source, queries, direction))
    if found.cosines:
        mean = sum(found.cosines.values()) / len(found.cosines)
        out.print(f"mean cosine of two studies within a region: {mean:.3f} (collapsed above {COLLAPSED})")
    if len(found.judged) == 1:
        out.print(f"only one region can be judged, {region_name(found.judged[0])}: there is no mean over regions")
    out.print(f"{BELOW}: below a random order")
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
            figure_text(five.figure, five.random),
            _value(five.random),
            "–" if five.lift is None else f"{five.lift:.2f}",
            _marked(ten.figure.value, ten.random),
            _value(ten.random),
            _marked(ndcg.figure.value, ndcg.random),
            _value(ndcg.random),
            _marked(rate.figure.value, rate.random),
            _value(rate.random),
            _value(rate.oracle),
        )
    return table
