"""Tables for the terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from .compare import LOSS, TIE, WIN, Duel, Figure, Row
from .contest import NOTE, Contest

WIDTH = 140  # of a table that goes into a file
MARKS = {WIN: "+", TIE: "=", LOSS: "-"}
QUERIES = {"abnormal": "queries whose region is abnormal", "all": "all queries"}
JUDGES = {"mined": "judged by the reports", "true": "judged by the true findings"}


def console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def show_contest(found: Contest) -> None:
    """All tables, the headline first, and the count of wins last."""
    out = console()
    for queries in ("abnormal", "all"):
        for judge in ("mined", "true"):
            if (judge, queries) in found.tables:
                title = f"{QUERIES[queries]}, {JUDGES[judge]}"
                out.print(_contest_table(found, found.tables[judge, queries], title))
    out.print(f"+ win, = tie, - loss of {found.names[0]}; *: the paired 95 % interval of the difference bears it out")
    for name in found.by_chance:
        out.print(f"{name} has no text tower: from image to report it scores the random line")
    out.print(NOTE)
    for (judge, queries), table in sorted(found.tables.items(), key=lambda item: item[0] == ("mined", "abnormal")):
        for other, tally in found.tallies(judge, queries).items():
            out.print(
                f"{QUERIES[queries]}, {JUDGES[judge]}: against {other}, {found.names[0]} wins {tally['wins']} of "
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
        table.add_row(row.kind.value, row.metric.title, str(row.queries), _value(row.random), _value(row.best), *cells)
    return table


def figure_text(figure: Figure) -> str:
    if figure.interval_95 is None:
        return "–"
    low, high = figure.interval_95
    return f"{_value(figure.value)} [{_value(low)}, {_value(high)}]".replace("[", "\\[")


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _mark(duel: Duel) -> str:
    return MARKS[duel.outcome] + ("*" if duel.clear else " ")
