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

RETRIEVAL, CONFUSABLE = "retrieval", "confusable"

if TYPE_CHECKING:
    from ..evaluation.evaluation import Evaluation
    from ..evaluation.evaluation_data import StartBar


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("evaluate", help="how well a model finds similar cases, beside a random order")
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_flags(parser)
    parser.add_argument(
        "--exam",
        choices=(RETRIEVAL, CONFUSABLE),
        default=RETRIEVAL,
        help="retrieval by region (default), or confusable: --phantoms N patients with either of two alike conditions",
    )
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

    if args.exam == CONFUSABLE:
        return _confusable(args)
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


def _confusable(args: argparse.Namespace) -> int:
    """Raises BadInput, BundleRefused."""
    import torch

    from radir_pacs.encode import Bundle
    from radir_pacs.types import ImageKind

    from ..evaluation.confusable import examined, table
    from ..evaluation.models import read

    if args.phantoms is None or args.data is not None or args.html is not None:
        raise BadInput("--exam confusable draws --phantoms N, and takes neither --data nor --html")
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    bundle: Bundle | None = read(args.model, (ImageKind.CXR,)).bundles.get(ImageKind.CXR)
    if bundle is None:
        raise BadInput("--exam confusable judges a bundle of radiographs")
    found = examined(bundle, seeds=(args.seed,), patients=args.phantoms)
    if args.json:
        print(json.dumps({**found, "date": date.today().isoformat()}))
    else:
        print("\n".join(table(found)))
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
