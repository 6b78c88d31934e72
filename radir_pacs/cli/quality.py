"""``radir quality``: how well the models that serve did, week by week."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, ModelRow
from radir_pacs.cli.output import out, print_json, progress
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.models import Registry
from radir_pacs.models.errands import week_of
from radir_pacs.query import Searcher
from radir_pacs.query.quality import ReportVectors, WeekOfModel, notices, worded
from radir_pacs.types import ImageKind


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("quality", help="how well the models that serve did, week by week")
    parser.add_argument("--measure", action="store_true", help="measure the last whole week now, as the schedule does")
    parser.add_argument("--this-week", action="store_true", help="with --measure: the week that is not over instead")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 0, whatever the notices say."""
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        if args.measure:
            _measure(catalogue, settings, this_week=args.this_week)
        rows = catalogue.quality.rows()
    if args.json:
        print_json([{"week": row.week, "model": row.model_id, "kind": row.kind, **row.figures} for row in rows])
        return 0
    table = Table("week", "model", "studies", "own report", "first ten", "by parents", "drift", "notices")
    for row in rows:
        found = row.figures
        drifts = ", ".join(f"{one['value']:.3f}" for one in found["drift"])
        table.add_row(
            str(row.week),
            row.model_id,
            str(found["studies"]),
            *(_mean(found[name]) for name in ("own_report", "first_ten", "by_parents")),
            drifts or "–",
            str(len(found["notices"]) or ""),
        )
    out.print(table)
    for row in rows:
        for notice in row.figures["notices"]:
            out.print(f"{row.week} {row.model_id}: {worded(notice)}", markup=False)
    return 0


def _mean(told: dict[str, Any] | None) -> str:
    if told is None:
        return "–"
    interval = "" if told["low"] is None else f" ({told['low']:.3f} to {told['high']:.3f})"
    return f"{told['mean']:.3f}{interval}"


def _measure(catalogue: Catalogue, settings: Settings, *, this_week: bool) -> None:
    week = week_of(datetime.now(UTC).date()) - timedelta(days=0 if this_week else 7)
    searcher = Searcher(catalogue, settings)
    rows = catalogue.quality.rows()
    try:
        for model in filter(None, map(catalogue.models.serving, ImageKind)):
            with progress(transient=True) as bar:
                task = bar.add_task(f"{model.model_id}, week of {week}", total=1.0)
                measured = WeekOfModel(
                    catalogue,
                    searcher,
                    model,
                    week,
                    _report_vectors(catalogue, settings, model),
                    lambda done, task=task: bar.update(task, completed=done),  # type: ignore[misc]
                )
                figures = measured.figures()
            earlier = [row for row in rows if row.model_id == model.model_id and row.week < week]
            figures["notices"] = notices(figures, earlier, settings)
            catalogue.quality.keep(week, model.model_id, model.kind, figures)
    finally:
        searcher.close()


def _report_vectors(catalogue: Catalogue, settings: Settings, model: ModelRow) -> ReportVectors | None:
    """By the model's text encoder; None for a network from elsewhere, or one whose bundle is not here."""
    from radir_pacs.encode import Bundle  # brings torch
    from radir_pacs.encode.report_text import ReportReader

    if model.bundle_sha256 is None:
        return None
    bundle = Bundle.load(Registry(catalogue, settings).folder(model), program=False)  # reports alone are read
    return ReportReader.of(bundle, settings.torch_threads)
