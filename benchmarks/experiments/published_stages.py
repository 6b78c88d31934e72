"""RadIR's losses in one stage, as ours are trained, and in the paper's own two, beside ours; several seeds.

    OMP_NUM_THREADS=2 python -m benchmarks.experiments.published_stages --work DIR [--seeds 1,2,3] [--patients 3000]
        [--epochs 4] [--out docs/results]

A smaller form of `comparison`, of radiographs alone: what is asked is whether the paper's stages change the picture,
not how good any of the three can become. Each is trained by ``radir train``, with the same patients, passes and seed,
and examined by ``radir compare`` on other patients, the same ones for all seeds. Finished bundles are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.experiments.comparison import EXAM_PATIENTS, Page, compared, manifests, train

NAME, KIND = "published-stages", "cxr"
RECIPES = ("ours", "published", "published-staged")
EXAM_SEED = 101  # of no training


def page_of(work: Path, seed: int, patients: int, epochs: int) -> Page:
    return Page(
        name=NAME,
        title="",
        recipes=RECIPES,
        baselines=("random",),
        patients={KIND: patients},
        epochs={KIND: epochs},
        work=work / str(seed),
        seed=seed,
        exam_seed=EXAM_SEED,
        threads=2,
    )


def measured(page: Page) -> dict[str, Any]:
    """Of one seed: the mean Recall@5 of each recipe by its manifest, and what `radir compare` counts."""
    found = compared(page)
    apart = {recipe: manifests(page, recipe)[KIND]["recall_at_5_abnormal"] for recipe in RECIPES}
    tally = found["judges"]["mined"]["abnormal"]["tally"]
    return {
        "recall": {recipe: apart[recipe]["recall"] for recipe in RECIPES},
        "interval_95": {recipe: apart[recipe]["interval_95"] for recipe in RECIPES},
        "random": apart[RECIPES[0]]["random"],
        "of": found["of"],
        "wins": {other: tally[other]["wins"] for other in RECIPES[1:]},
        "clear_wins": {other: tally[other]["clear_wins"] for other in RECIPES[1:]},
        "clear_losses": {other: tally[other]["clear_losses"] for other in RECIPES[1:]},
    }


def written(told: Mapping[str, Any]) -> str:
    """The Markdown page."""
    seeds: Mapping[str, Any] = told["seeds"]
    lines = [
        "# The published losses in one stage and in the paper's two",
        "",
        f"Radiographs of {told['patients']:,} synthetic patients, {told['epochs']} passes, the same network for all, "
        "and the same patients for the three of one seed. A smaller form of [the comparison](compare.md): what is "
        "asked is whether the paper's own stages change the picture.",
        "",
        "Recall@5 of abnormal queries judged by reports, mean of the regions below the chest, on the patients that "
        "each training held out, with its 95 % interval over patients.",
        "",
        "| seed | random | " + " | ".join(RECIPES) + " |",
        "|---" * (len(RECIPES) + 2) + "|",
    ]
    for seed, one in seeds.items():
        cells = [
            f"{one['recall'][name]:.3f} ({one['interval_95'][name][0]:.3f} to {one['interval_95'][name][1]:.3f})"
            for name in RECIPES
        ]
        lines.append(f"| {seed} | {one['random']:.3f} | " + " | ".join(cells) + " |")
    means = {name: [one["recall"][name] for one in seeds.values()] for name in RECIPES}
    lines += [
        "| mean, least to most | | " + " | ".join(_spread(means[name]) for name in RECIPES) + " |",
        "",
        f"`radir compare` on {EXAM_PATIENTS} other patients (seed {EXAM_SEED}): metrics of ours that are better, in "
        "brackets with the whole interval of the paired difference above zero, and behind them those that are worse "
        "with the whole interval below.",
        "",
        "| seed | metrics | " + " | ".join(f"against {name}" for name in RECIPES[1:]) + " |",
        "|---|---|---|---|",
    ]
    for seed, one in seeds.items():
        cells = [
            f"{one['wins'][name]} ({one['clear_wins'][name]}), {one['clear_losses'][name]}" for name in RECIPES[1:]
        ]
        lines.append(f"| {seed} | {one['of']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}, {min(values):.3f} to {max(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained bundles")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--patients", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    told: dict[str, Any] = {"patients": args.patients, "epochs": args.epochs, "seeds": {}}
    for seed in args.seeds.split(","):
        page = page_of(args.work, int(seed), args.patients, args.epochs)
        for recipe in RECIPES:
            print(f"seed {seed}, {train(page, recipe, KIND)}", flush=True)
        told["seeds"][seed] = measured(page)
        print(results.write(args.out, NAME, told, written(told)), flush=True)


if __name__ == "__main__":
    main()
