"""``radir train``: trains a network on synthetic patients, measures it on others, and writes the bundle."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from radir_pacs.config import Settings
from radir_pacs.encode import CONFIGS, Bundle
from radir_pacs.errors import BadInput
from radir_pacs.types import ImageKind

from .data import phantom_set
from .evaluate import evaluated, region_vectors
from .train import Recipe, Step, measured, train

DEFAULT_CACHE = Path("~/.cache/radir/training")
HELD_OUT_SHARE = 0.2


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("train", help="train a network on synthetic patients and write its bundle")
    parser.add_argument("--config", choices=list(CONFIGS), default="tiny", help="size of the network")
    parser.add_argument("--kind", choices=[kind.lower() for kind in ImageKind], required=True, help="what it encodes")
    parser.add_argument("--patients", type=int, default=2000, metavar="N", help="patients, the held-out ones included")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the patients and of the training")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder the bundle is written to")
    parser.add_argument("--epochs", type=int, default=_default("epochs"), metavar="N", help="passes over the data")
    parser.add_argument(
        "--minutes", type=float, default=0.0, metavar="M", help="end after this long; the outcome then varies"
    )
    parser.add_argument("--batch", type=int, default=_default("batch"), metavar="N", help="images a step")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="where drawn patients are kept"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that draw patients")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads of the network; 0 lets torch choose"
    )
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.set_defaults(run=run)


def _default(name: str) -> Any:
    return next(field.default for field in fields(Recipe) if field.name == name)


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """Exit code 0 when the bundle is written. Raises BadInput, BundleRefused, OSError."""
    if args.patients < 20 or args.epochs < 1 or args.batch < 2 or args.seed < 0 or not math.isfinite(args.minutes):
        raise BadInput("a training takes at least 20 patients, 1 epoch, batches of 2 and a seed that is not negative")
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    recipe = Recipe(epochs=args.epochs, minutes=max(0.0, args.minutes), seed=args.seed, batch=args.batch)
    bundle = trained_bundle(
        args.config,
        ImageKind(args.kind.upper()),
        recipe,
        patients=args.patients,
        cache=args.cache.expanduser(),
        jobs=args.jobs,
    ).save(args.out)
    if args.json:
        print(json.dumps({"model_id": bundle.model_id, "bundle": str(args.out), **bundle.metrics}))
    else:
        _show(bundle, args.out)
    return 0


def trained_bundle(
    config_name: str, kind: ImageKind, recipe: Recipe, *, patients: int, cache: Path, jobs: int = 1
) -> Bundle:
    """A network trained on phantom patients and measured on the fifth of them that was kept apart; not yet saved."""
    config = CONFIGS[config_name]
    held_out = max(1, round(HELD_OUT_SHARE * patients))
    with _progress() as start_bar:
        advance = start_bar("drawing patients", patients)
        data = phantom_set(
            config,
            kind,
            patients=patients,
            seed=recipe.seed,
            cache=cache,
            processes=jobs,
            progress=lambda done: advance(done, ""),
        )
        advance(patients, "")
        training, apart = data.split(held_out)
        advance = start_bar("training", 1.0)

        def tell(step: Step) -> None:
            advance(step.done, f"epoch {step.epoch + 1}, loss {step.contrast:.2f} + {step.severity:.3f}")

        bundle = train(config, training, recipe, tell=tell)
        advance(1.0, "")
    metrics = evaluated(region_vectors(bundle.network, bundle.queries(), apart), apart, recipe.seed)
    provenance = {
        "data": f"synthetic patients (radir phantom), seed {recipe.seed}, numbers 0 to {patients - held_out - 1}",
        "licence": "Apache-2.0; no image or report of a real person",
        "intended_use": "trying the software; not fit for clinical use",
    }
    return measured(bundle, metrics, provenance)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], Callable[[float, str], None]]]:
    """Gives a function that opens a bar and returns what moves it."""
    columns = (TextColumn("{task.description:<18}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as progress:

        def start_bar(title: str, total: float) -> Callable[[float, str], None]:
            task = progress.add_task(title, total=total, note="")
            return lambda done, note: progress.update(task, completed=done, note=note)

        yield start_bar


def _show(bundle: Bundle, out: Path) -> None:
    found = bundle.metrics["recall_at_5_abnormal"]
    console = Console()
    if found["recall"] is None:
        console.print("too few abnormal held-out patients to measure anything")
    else:
        table = Table("region", "queries", "R@5", "random", title="held-out patients, queries with an abnormal region")
        for key, entry in found["regions"].items():
            table.add_row(key, str(entry["queries"]), f"{entry['recall']:.2f}", f"{entry['random']:.2f}")
        low, high = found["interval_95"]
        table.add_section()
        table.add_row("mean", "", f"{found['recall']:.3f} [{low:.3f}, {high:.3f}]", f"{found['random']:.3f}")
        console.print(table)
    console.print(f"{bundle.model_id} written to {out}")
