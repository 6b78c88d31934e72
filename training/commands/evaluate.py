"""``radir evaluate``: one model judged, as tables, as JSON and as a page with plots and pictures."""

from __future__ import annotations

import argparse
import json
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radir_pacs.config import Settings
from radir_pacs.errors import BadInput

from .flags import MODEL_HELP, add_flags, judged_on, wanted_kinds

if TYPE_CHECKING:
    from ..evaluation.evaluation import Evaluation
    from ..evaluation.evaluation_data import StartBar


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("evaluate", help="how well a model finds similar cases, beside a random order")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_flags(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with plots and picture rows")
    parser.set_defaults(run=run)


def evaluate(
    model: str,
    *,
    data: str | None,
    phantoms: int | None,
    kind: str,
    held_out: bool,
    regions: str | None,
    seed: int,
) -> dict[str, Any]:
    """The function behind ``radir_pacs.api.evaluate``. Raises BadInput, BundleRefused, OSError."""
    from radir_pacs.cli.output import bars

    parser = argparse.ArgumentParser()
    add_flags(parser)
    args = parser.parse_args([])
    args.data, args.phantoms, args.kind = None if data is None else Path(data), phantoms, kind
    args.held_out, args.regions, args.seed = held_out, regions, seed
    with bars() as start_bar:
        return _as_json(args, *_evaluated(args, model, start_bar))


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """Exit code 0 when everything is printed and written. Raises BadInput, BundleRefused, OSError."""
    # imported here: torch takes seconds to import, and ``radir`` registers every command
    import torch

    from radir_pacs.cli.output import bars

    from ..evaluation.tables import show_evaluation

    if args.html and find_spec("matplotlib") is None:
        raise BadInput("--html needs matplotlib: pip install -e '.[train]' in the clone")
    if args.html and not args.html.parent.is_dir():
        raise BadInput(f"there is no folder {args.html.parent} for the page")
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    with bars() as start_bar:
        name, found = _evaluated(args, args.model, start_bar)
    if args.json:
        print(json.dumps(_as_json(args, name, found)))
    else:
        for one in found:
            show_evaluation(one)
    if args.html:
        from ..evaluation.html import page  # matplotlib, an extra

        args.html.write_text(page(found, on=judged_on(args), seed=args.seed), encoding="utf-8")
        if not args.json:
            print(f"{args.html} shows it")
    return 0


def _evaluated(args: argparse.Namespace, model: str, start_bar: StartBar) -> tuple[str, list[Evaluation]]:
    from ..evaluation.evaluation import evaluations
    from ..evaluation.models import read

    kinds = wanted_kinds(args)
    judged = read(model, kinds)
    return judged.name, list(evaluations(args, judged, kinds, start_bar))


def _as_json(args: argparse.Namespace, name: str, found: list[Evaluation]) -> dict[str, Any]:
    from ..evaluation.evaluation import FORMAT, NOTE

    by_kind = {one.kind.value: one.as_json() for one in found}
    judged = {"model": name, "on": judged_on(args), "seed": args.seed, "date": date.today().isoformat()}
    return {"format": FORMAT, "note": NOTE, **judged, "held_out": args.held_out, "kinds": by_kind}
