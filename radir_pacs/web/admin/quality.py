"""How well the models that served did, week by week, and what fell; as ``radir quality``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from flask import Response

from radir_pacs.catalogue import ModelRow, QualityRow
from radir_pacs.types import ModelState
from radir_pacs.web.services import services

from . import view
from .charts import HEIGHT, WIDTH, Curve, shares

blueprint = view.guarded("admin_quality", __name__)

FIGURES = ("own_report", "first_ten", "by_parents")


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The weeks of a model, the newest first. ``curves``: of its means, from the oldest to the newest."""

    model: ModelRow
    rows: Sequence[QualityRow]
    curves: tuple[Curve, ...]

    @property
    def serves(self) -> bool:
        return self.model.state is ModelState.SERVING

    @property
    def notices(self) -> Sequence[dict[str, Any]]:
        """Of the newest week."""
        found: Sequence[dict[str, Any]] = self.rows[0].figures["notices"]
        return found


def watched() -> list[Watched]:
    """Every model that was measured, those that serve first."""
    catalogue = services().catalogue
    rows = sorted(catalogue.quality.rows(), key=lambda row: row.model_id)  # keeps the newest first
    weeks = {model_id: list(of_model) for model_id, of_model in groupby(rows, key=lambda row: row.model_id)}
    found = [
        Watched(model=model, rows=weeks[model.model_id], curves=_curves(weeks[model.model_id]))
        for model in catalogue.models.all()
        if model.model_id in weeks
    ]
    return sorted(found, key=lambda one: (not one.serves, -one.rows[0].week.toordinal(), one.model.model_id))


@blueprint.get("/quality")
def quality() -> Response:
    """Weeks by model, with what fell."""
    settings = services().settings
    return view.page(
        "quality.html", watched=watched(), figures=FIGURES, weekly=settings.quality_weekly, width=WIDTH, height=HEIGHT
    )


def _curves(rows: Sequence[QualityRow]) -> tuple[Curve, ...]:
    first = rows[-1].week
    told = {
        name: [((row.week - first).days // 7, row.figures[name]["mean"]) for row in reversed(rows) if row.figures[name]]
        for name in FIGURES
    }
    return shares(told)
