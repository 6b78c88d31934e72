"""``radir models register|shadow|promote|rollback|retire|history``: what may be done with models, and what was done."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.table import Table

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, ModelProgress, ModelRow
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import counted, out, print_json
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.models import Registry
from radir_pacs.models.signed import signed
from radir_pacs.types import ImageKind

_KINDS = [kind.lower() for kind in ImageKind]


def register(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the actions that change something, and the history."""
    _action(actions, "register", "copy a bundle into the home folder and make it known; it encodes nothing yet", add)
    _action(actions, "shadow", "have a model encode beside the one that serves, unseen", shadow)
    _action(actions, "promote", "have a model answer from the next question on", promote)
    _action(actions, "rollback", "have the model answer again that was replaced last", rollback)
    _action(actions, "retire", "have a model encode no more; what it encoded is cleared away", retire)
    parser = actions.add_parser("compare", help="how a model in shadow answers the questions that are really asked")
    parser.add_argument("model", metavar="MODEL", help="its id, as `radir models list` shows it")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=compare, needs_settings=True)
    parser = actions.add_parser("history", help="who did what with models, when and why; which model answered when")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="of this model only")
    parser.add_argument("--at", metavar="DATE", help="which models answered on that day, as 2026-11-01, or at a moment"
                        " (UTC), as 2026-11-01T09:30")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=history, needs_settings=True)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    run: Callable[[argparse.Namespace, Settings], int],
) -> None:
    parser = actions.add_parser(name, help=help_text)
    if name == "register":
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="a bundle")
    elif name == "rollback":
        parser.add_argument("kind", choices=_KINDS, help="for which kind of image")
        parser.add_argument("--instead-of", default="", metavar="MODEL", help="refuse when another model serves by now:"
                            " for scripts that may ask twice")  # fmt: skip
    else:
        parser.add_argument("model", metavar="MODEL", help="its id, as `radir models list` shows it")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for the history")
    parser.add_argument("--by", default="", metavar="NAME", help="who decided it (default: the user of this system)")
    parser.add_argument("--evidence", default="", metavar="WHERE", help="where the grounds are filed")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


@contextmanager
def registry_of(settings: Settings) -> Iterator[Registry]:
    """The models of an installation that runs. Raises NotReady."""
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        yield Registry(catalogue, settings)


def _said(args: argparse.Namespace) -> dict[str, str]:
    return signed(args.by, caller().name, args.reason, args.evidence)


def add(args: argparse.Namespace, settings: Settings) -> int:
    """Raises BundleRefused, Conflict."""
    with registry_of(settings) as registry:
        model = registry.register(args.folder, **_said(args))
    return _tell(args, model, f"{model.model_id} is known; `radir models shadow {model.model_id}` has it encode")


def shadow(args: argparse.Namespace, settings: Settings) -> int:
    """Raises NotFound, Conflict."""
    with registry_of(settings) as registry:
        model = registry.shadow(args.model, **_said(args))
    return _tell(args, model, f"{model.model_id} encodes in the background; `radir models list` shows how far it is")


def promote(args: argparse.Namespace, settings: Settings) -> int:
    """Raises NotFound, NotCovered, NotReady, Conflict."""
    with registry_of(settings) as registry:
        model = registry.promote(args.model, **_said(args))
    return _tell(
        args,
        model,
        f"{model.model_id} answers; `radir models rollback {model.kind.lower()}` undoes it within"
        f" {settings.model_rollback_days:g} {'day' if settings.model_rollback_days == 1 else 'days'}",
    )


def rollback(args: argparse.Namespace, settings: Settings) -> int:
    """Raises NotFound, Conflict."""
    with registry_of(settings) as registry:
        kind = ImageKind(args.kind.upper())
        model, coverage = registry.rollback(kind, instead_of=args.instead_of, **_said(args))
    lacking = coverage.total - coverage.encoded
    rest = f"; {counted(lacking, 'study', 'studies')} of {coverage.total} to encode next" if lacking else ""
    return _tell(args, model, f"{model.model_id} answers again{rest}")


def retire(args: argparse.Namespace, settings: Settings) -> int:
    """Raises NotFound, Conflict."""
    with registry_of(settings) as registry:
        registry.retire(args.model, **_said(args))
        model = registry.get(args.model)
    return _tell(args, model, f"{model.model_id} encodes no more")


def _tell(args: argparse.Namespace, model: ModelRow, words: str) -> int:
    if args.json:
        print_json({"model_id": model.model_id, "kind": model.kind, "state": model.state})
    else:
        out.print(words, markup=False)
    return 0


def compare(args: argparse.Namespace, settings: Settings) -> int:
    """Raises NotFound."""
    with registry_of(settings) as registry:
        found = registry.compared(args.model)
    if args.json:
        print_json([_without_nan(asdict(one)) for one in found])
        return 0
    if not found:
        out.print(f"no question was asked of {args.model} yet (shadow_share)", markup=False)
    for one in found:
        table = Table("", "mean", "95 % interval", "questions", title=f"{one.model_id} beside {one.serving}")
        for name, mean, digits in (
            ("of the first ten cases, both gave", one.overlap, 3),
            ("agreement of reports, serving", one.serving_agreement, 3),
            ("agreement of reports, in shadow", one.shadow_agreement, 3),
            ("gain in agreement", one.agreement_gain, 3),
            ("ms per answer, serving", one.serving_ms, 1),
            ("ms per answer, in shadow", one.shadow_ms, 1),
        ):
            shown = [f"{value:.{digits}f}" for value in (mean.mean, mean.low, mean.high)]
            table.add_row(name, shown[0], f"{shown[1]} to {shown[2]}", str(mean.count))
        out.print(table)
    return 0


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: a mean of nothing is null."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def history(args: argparse.Namespace, settings: Settings) -> int:
    """Raises BadInput for a date that cannot be read."""
    with registry_of(settings) as registry:
        if args.at is None:
            rows: list[dict[str, Any]] = [asdict(event) for event in registry.history(args.model)]
        else:
            rows = [asdict(span) for span in registry.answered(*_times(args.at))]
            rows = [row for row in rows if args.model in (None, row["model_id"])]
    if args.json:
        print_json(rows)
        return 0
    if not rows:
        out.print("nothing is recorded of that time")
        return 0
    table = Table(*(name for name in rows[0] if name != "id"))
    for row in rows:
        table.add_row(*(_cell(value) for name, value in row.items() if name != "id"))
    out.print(table)
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{100 * value:.2f} %"
    text = "" if value is None else str(value)
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text).replace("[", r"\[")


def _times(text: str) -> tuple[datetime, datetime]:
    """A day, or the instant that a time names."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"--at: {text!r} is no date such as 2026-11-01") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment, moment + (timedelta(days=1) if len(text) == len("2026-11-01") else timedelta(microseconds=1))


def left_of(progress: ModelProgress) -> str:
    """How far a model is, for people: share of the studies, the rest's expected end, what failed."""
    coverage, left_s = progress.coverage, progress.left_s
    words = f"{100 * coverage.share:.1f} % of {coverage.total}"
    if coverage.encoded < coverage.total and left_s:
        words += f", done in {timedelta(seconds=round(left_s))}"
    if progress.failed:
        words += f", {progress.failed} failed"
    return words
