"""Our training recipe beside its baselines, on the same synthetic patients, with the same network, passes and seed.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.comparison --work DIR [--pages compare,ablation]
        [--out docs/results] [--cxr-patients 12000 --cxr-epochs 7 --ct-patients 12000 --ct-epochs 4]
        [--ablation-patients 3000 --ablation-epochs 4] [--jobs 2]

"compare": trains every recipe with ``radir train`` (finished bundles are kept, and interrupted trainings resume
from their checkpoint), compares ours with all others, a random order, raw pixels and a classical descriptor by ``radir
compare`` on patients of another seed, and writes compare.json and compare.md. "ablation": ours with one part removed or
added, on fewer radiographs and in fewer passes: ablation.json and ablation.md. All figures come from these runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import results
from radir_training.learning.recipe import ABLATIONS, RECIPES
from radir_training.runs.held_out import MOST

IMAGES = {"cxr": "radiographs", "ct": "CT"}
GLOBAL = ("unconditional", "ours-without-conditioning")  # one vector per image is used for every region
TRAIN_SEED, EXAM_SEED, EXAM_PATIENTS = 1, 2, 800
RADIR = (str(Path(sys.executable).with_name("radir")),)


@dataclass(frozen=True)
class Page:
    """The recipes that are trained and compared, the first against the others. patients, epochs: per kind of image."""

    name: str
    title: str
    recipes: tuple[str, ...]
    baselines: tuple[str, ...]
    patients: dict[str, int]
    epochs: dict[str, int]
    work: Path
    seed: int = TRAIN_SEED
    exam_seed: int = EXAM_SEED
    threads: int = 1  # of each training

    def bundle(self, recipe: str, kind: str) -> Path:
        return self.work / recipe / kind


def train(page: Page, recipe: str, kind: str) -> str:
    """Run one training unless its bundle exists; returns a line about it."""
    out = page.bundle(recipe, kind)
    if (out / "manifest.json").is_file():
        told = json.loads((out / "manifest.json").read_text())["training"]
        wanted = page.epochs[kind], page.seed, page.patients[kind]
        made = told["recipe"]["epochs"], told["recipe"]["seed"], told.get("drawn")
        wanted_recipe = RECIPES[recipe]
        same = (told["recipe"]["losses"], told["recipe"]["stages"]) == (wanted_recipe.losses, wanted_recipe.stages)
        if made != wanted or not same:
            raise SystemExit(f"{out} was trained with other settings: remove it, or name another --work")
        return f"{recipe} {kind}: already there"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [*RADIR, "train", "--kind", kind, "--recipe", recipe, "--out", str(out), "--threads", str(page.threads)]
    command += ["--patients", str(page.patients[kind]), "--epochs", str(page.epochs[kind]), "--seed", str(page.seed)]
    start = time.monotonic()
    with (out.parent / f"{kind}.log").open("w") as log:
        done = subprocess.run([*command, "--json"], stdout=subprocess.DEVNULL, stderr=log, check=False)
    if done.returncode:
        raise SystemExit(f"{recipe} {kind} failed: see {log.name}")
    return f"{recipe} {kind}: {(time.monotonic() - start) / 60:.1f} min"


def compared(page: Page) -> dict[str, Any]:
    """``radir compare`` of the trained recipes, the first against all."""
    models = []
    for recipe in page.recipes:
        paths = ",".join(str(page.bundle(recipe, kind)) for kind in page.epochs)
        models.append(f"{recipe}={'global:' if recipe in GLOBAL else ''}{paths}")
    command = [
        *RADIR,
        "compare",
        *models,
        *page.baselines,
        "--phantoms",
        str(EXAM_PATIENTS),
        "--seed",
        str(page.exam_seed),
    ]
    kinds = "both" if len(page.epochs) > 1 else next(iter(page.epochs))
    done = subprocess.run([*command, "--kind", kinds, "--json"], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def manifests(page: Page, recipe: str) -> dict[str, Any]:
    """The figures of each bundle's manifest on the patients that its training held out, by kind of image."""
    read = {kind: json.loads((page.bundle(recipe, kind) / "manifest.json").read_text()) for kind in page.epochs}
    return {kind: {**manifest["metrics"], "model_id": manifest["model_id"]} for kind, manifest in read.items()}


def figures(found: dict[str, Any], source: str, queries: str, title: str) -> list[str]:
    """One Markdown table: one row per metric, one column per model."""
    models = found["models"]
    lines = [f"### {title}", "", "| images | metric | " + " | ".join(models) + " |", "|---" * (len(models) + 2) + "|"]
    for row in found["judges"][source][queries]["metrics"]:
        cells = [_cell(row["models"][model]) for model in models]
        lines.append(
            f"| {row['kind']} | {row['region']}, {row['direction']}, {row['measure']}@{row['k']} | "
            + " | ".join(cells)
            + " |"
        )
    return [*lines, ""]


def _cell(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "–"
    low, high = figure["interval_95"]
    return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]"


def _wins(found: dict[str, Any], other: str) -> str:
    """A row: wins, and in brackets those that chance does not explain."""
    tallies = [
        found["judges"][source][queries]["tally"][other]
        for queries in ("abnormal", "all")
        for source in ("mined", "true")
    ]
    return f"| {other} | " + " | ".join(f"{tally['wins']} ({tally['clear_wins']})" for tally in tallies) + " |"


def not_won(found: dict[str, Any]) -> list[str]:
    """One line per opponent: the metrics, on abnormal queries judged by reports, that ours does not win."""
    lines = []
    for other in found["models"][1:]:
        missed = [
            f"{row['kind']} {row['region']} {row['direction']} {row['measure']}@{row['k']} "
            f"({_value(row, found['ours'])}, {_value(row, other)})"
            for row in found["judges"]["mined"]["abnormal"]["metrics"]
            if row["against"][other]["outcome"] != "win"
        ]
        lines.append(f"- {other}: " + ("; ".join(missed) if missed else "nowhere"))
    return lines


def _value(row: dict[str, Any], model: str) -> str:
    value = row["models"][model]["value"]
    return "–" if value is None else f"{value:.3f}"


def regions(page: Page, found: dict[str, Any], kind: str, metric: str, source: str) -> list[str]:
    """Recall@5 of abnormal queries by region, from the manifests, on the patients that each training held out."""
    measured = {recipe: found["held_out"][recipe][kind] for recipe in page.recipes}
    first = measured[page.recipes[0]]
    if first[metric]["recall"] is None:
        return [f"{IMAGES[kind]}, {source}: too few abnormal queries to judge a region.", ""]
    columns = ["queries", "random", *page.recipes]
    lines = [f"### {IMAGES[kind]}, Recall@5 of abnormal queries, {source}", ""]
    lines += ["| region | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for key, own in first[metric]["regions"].items():
        cells = [measured[recipe][metric]["regions"][key]["recall"] for recipe in page.recipes]
        figures = " | ".join(f"{cell:.2f}" for cell in cells)
        lines.append(f"| {key} | {own['queries']} | {own['random']:.2f} | {figures} |")
    means = " | ".join(_mean(measured[recipe][metric]) for recipe in page.recipes)
    lines.append(f"| mean below the chest |  | {first[metric]['random']:.3f} | {means} |")
    pixels = first[f"{metric}_pixels"]["recall"]
    return [*lines, "", f"The mean of the pixel baseline: {pixels:.3f}.", ""]


def _mean(summary: dict[str, Any]) -> str:
    low, high = summary["interval_95"]
    return f"{summary['recall']:.3f} [{low:.3f}, {high:.3f}]"


def written(page: Page, found: dict[str, Any]) -> str:
    """The Markdown page of a comparison."""
    of = found["of"]
    passes = " and ".join(
        f"{count} passes over {IMAGES[kind]} of {page.patients[kind]:,} others" for kind, count in page.epochs.items()
    )
    lines = [
        f"# {page.title}",
        "",
        f"Held-out synthetic patients ({EXAM_PATIENTS}, seed {EXAM_SEED}); trained in {passes} (seed {TRAIN_SEED}; a "
        f"fifth of them, at most {MOST}, held out for the manifests), one network and one "
        'seed for all; the losses of "published" and "repaired" in one stage, as ours, those of "published-staged" in '
        "the paper's two. "
        "Intervals are of 95 %, bootstrap over patients; a random order is "
        "exact. Decision support, not diagnosis.",
        "",
        f"## {found['ours']} wins, of {of} metrics",
        "",
        "By the figures alone, and in brackets those wins where the whole interval of the paired difference lies above "
        "zero: only these should be counted.",
        "",
        "| opponent | abnormal, judged by reports | abnormal, by true findings | all, by reports | all, by truth |",
        "|---|---|---|---|---|",
    ]
    lines += [_wins(found, other) for other in found["models"][1:]]
    if found["without_text_tower"]:
        lines += ["", f"At the random line from image to report: {', '.join(found['without_text_tower'])}."]
    lines += [
        "",
        "## Where it does not win",
        "",
        "Abnormal queries, judged by reports; in brackets ours and theirs, ties included.",
        "",
        *not_won(found),
        "",
        "## Every region that can be judged",
        "",
        f"On the patients of seed {TRAIN_SEED} that each training held out, not on the {EXAM_PATIENTS} above: the "
        "figures of the manifests, which also hold the intervals.",
        "",
    ]
    for kind in page.epochs:
        lines += regions(page, found, kind, "recall_at_5_abnormal", "judged by reports")
        lines += regions(page, found, kind, "recall_at_5_abnormal_true", "by true findings")
    lines += ["## Figures", ""]
    lines += figures(found, "mined", "abnormal", "Queries whose region is abnormal, judged by reports")
    lines += figures(found, "true", "abnormal", "Queries whose region is abnormal, judged by the true findings")
    lines += figures(found, "mined", "all", "All queries, judged by reports")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained bundles")
    parser.add_argument("--pages", default="compare", help="comma separated: compare, ablation")
    parser.add_argument("--cxr-patients", type=int, default=12000)
    parser.add_argument("--cxr-epochs", type=int, default=7)
    parser.add_argument("--ct-patients", type=int, default=12000)
    parser.add_argument("--ct-epochs", type=int, default=4)
    parser.add_argument("--ablation-patients", type=int, default=3000)
    parser.add_argument("--ablation-epochs", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2, help="number of trainings at a time")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    pages = {
        "compare": Page(
            name="compare",
            title="Our recipe beside others",
            recipes=("ours", "unconditional", "published", "published-staged", "repaired"),
            baselines=("random", "pixels", "hog"),
            patients={"cxr": args.cxr_patients, "ct": args.ct_patients},
            epochs={"cxr": args.cxr_epochs, "ct": args.ct_epochs},
            work=args.work,
        ),
        "ablation": Page(
            name="ablation",
            title="What each part of the recipe is worth",
            recipes=("ours", *ABLATIONS),
            baselines=("random",),
            patients={"cxr": args.ablation_patients},
            epochs={"cxr": args.ablation_epochs},
            work=args.work / "ablation",
        ),
    }
    names = args.pages.split(",")
    if unknown := set(names) - set(pages):
        parser.error(f"there is no page {', '.join(sorted(unknown))}: choose from {', '.join(pages)}")
    for page in (pages[name] for name in names):
        wanted = [(recipe, kind) for recipe in page.recipes for kind in page.epochs]
        with ThreadPoolExecutor(args.jobs) as pool:
            for line in pool.map(lambda pair, page=page: train(page, *pair), wanted):
                print(line, flush=True)
        found = {**compared(page), "held_out": {recipe: manifests(page, recipe) for recipe in page.recipes}}
        path = results.write(args.out, page.name, found, written(page, found))
        print(f"{path}: {found['ours']} wins {found['wins']} of {found['of']}")


if __name__ == "__main__":
    main()
