"""``radir compare``: the paper's 78 metrics between models, each a win, a tie or a loss."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from radir_pacs.config import Settings
from radir_pacs.errors import BadInput

from .flags import MODEL_HELP, add_flags, judged_on, wanted_kinds


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("compare", help="the paper's 78 metrics between two or more models")
    parser.add_argument("models", nargs="+", metavar="MODEL", help=f"the first is ours. {MODEL_HELP}")
    add_flags(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with all figures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """Exit code 0 when the comparison is printed. Raises BadInput, BundleRefused, OSError."""
    # imported here: torch takes seconds to import, and ``radir`` registers every command
    import torch

    from radir_pacs.cli.output import bars

    from ..evaluation.comparison_page import page
    from ..evaluation.contest import Contest, contest
    from ..evaluation.models import read
    from ..evaluation.tables import show_contest

    if args.html and not args.html.parent.is_dir():
        raise BadInput(f"there is no folder {args.html.parent} for the page")
    kinds = wanted_kinds(args)
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    models = [read(word, kinds) for word in args.models]
    names = [model.name for model in models]
    if len(models) < 2:
        raise BadInput("a comparison needs two models or more")
    if len(set(names)) != len(names):
        raise BadInput(f"two models are called {max(names, key=names.count)}: use NAME=MODEL")
    with bars() as start_bar:
        found: Contest = contest(args, models, kinds, start_bar)
    if args.json:
        print(json.dumps(found.as_json()))
    else:
        show_contest(found)
    if args.html:
        args.html.write_text(page(found, on=judged_on(args), seed=args.seed), encoding="utf-8")
        if not args.json:
            print(f"{args.html} shows it")
    return 0
