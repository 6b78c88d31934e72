"""A comparison as one page: nothing from outside, no script."""

from __future__ import annotations

from datetime import date

from ..pages import rendered
from .compare import below
from .contest import NOTE, Contest
from .tables import JUDGES, MARKS, QUERIES, legend, notes, ordered


def page(found: Contest, *, on: str, seed: int) -> str:
    """The whole document; ``on``: what it was judged on, drawn by ``seed``."""
    return rendered(
        "comparison.html",
        title=f"Comparison of {', '.join(found.names)}",
        note=NOTE,
        on=on,
        seed=seed,
        today=date.today().isoformat(),
        below=below,
        data=found.data,
        names=found.names,
        notes=notes(found),
        legend=legend(found),
        marks=MARKS,
        tables=[
            {
                "judge": JUDGES[source],
                "queries": QUERIES[queries],
                "rows": found.tables[source, queries],
                "tallies": found.tallies(source, queries),
            }
            for source, queries in ordered(found)
        ],
    )
