"""One training from start to finish: draw patients, train, measure on those kept apart, show what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from radir_pacs.encode import CONFIGS, Bundle
from radir_pacs.types import ImageKind

from .data import phantom_set
from .evaluate import evaluated, region_vectors
from .train import Recipe, Step, measured, train

HELD_OUT_SHARE = 0.2


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


def show(bundle: Bundle, out: Path) -> None:
    """Print the table of regions and where the bundle lies."""
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
