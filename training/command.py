"""``radir train``: trains a network on synthetic patients, measures it on others, and writes the bundle."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from radir_pacs.config import Settings
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

DEFAULT_CACHE = Path("~/.cache/radir/training")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("train", help="train a network on synthetic patients and write its bundle")
    parser.add_argument("--config", default="tiny", metavar="NAME", help="size of the network: tiny, small or base")
    parser.add_argument("--kind", choices=[kind.lower() for kind in ImageKind], required=True, help="what it encodes")
    parser.add_argument("--patients", type=int, default=2000, metavar="N", help="patients, the held-out ones included")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the patients and of the training")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder the bundle is written to")
    parser.add_argument("--epochs", type=int, default=30, metavar="N", help="passes over the data (default 30)")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="M", help="end after M; the outcome then varies")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="images a step (default 32)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="keeps drawn patients")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that draw patients")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of the network; 0 lets torch choose")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """Exit code 0 when the bundle is written. Raises BadInput, BundleRefused, OSError."""
    # torch takes seconds to import: not before this command runs, since ``radir`` registers every command
    import torch

    from radir_pacs.encode import CONFIGS

    from .session import show, trained_bundle
    from .train import Recipe

    if args.config not in CONFIGS:
        raise BadInput(f"--config {args.config!r} is not one of {', '.join(CONFIGS)}")
    if args.patients < 20 or args.epochs < 1 or args.batch < 2 or args.seed < 0 or not math.isfinite(args.minutes):
        raise BadInput("a training takes at least 20 patients, 1 epoch, batches of 2 and a seed that is not negative")
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    recipe = Recipe(epochs=args.epochs, minutes=max(0.0, args.minutes), seed=args.seed, batch=args.batch)
    kind, cache = ImageKind(args.kind.upper()), args.cache.expanduser()
    unsaved = trained_bundle(args.config, kind, recipe, patients=args.patients, cache=cache, jobs=args.jobs)
    bundle = unsaved.save(args.out)
    if args.json:
        print(json.dumps({"model_id": bundle.model_id, "bundle": str(args.out), **bundle.metrics}))
    else:
        show(bundle, args.out)
    return 0
