"""Our training recipe beside its rivals, on the same synthetic patients, with the same network, passes and seed.

    OMP_NUM_THREADS=1 python benchmarks/comparison.py --work DIR [--patients 8000] [--cxr-epochs 18] [--ct-epochs 14]
        [--jobs 2] [--only ours,unconditional] [--ablations] [--out docs/results]

Trains every recipe with ``radir train`` (what is already there is not trained again, and what was cut off goes on from
its checkpoint), sets ours against all others, a random order, raw pixels and a classical descriptor with ``radir
compare`` on patients of another seed, and writes compare.json and compare.md; with --ablations also ablation.json and
ablation.md, on radiographs. No figure is typed in.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from radir_training.recipe import ABLATIONS

RECIPES = ("ours", "unconditional", "published", "repaired")
CHEAP = ("random", "pixels", "hog")
GLOBAL = ("unconditional", "ours-without-conditioning")  # one vector an image answers for every region
TRAIN_SEED, EXAM_SEED, EXAM_PATIENTS = 1, 2, 800
RADIR = (str(Path(sys.executable).with_name("radir")),)


def train(recipe: str, kind: str, args: argparse.Namespace) -> str:
    """Runs one training unless its bundle is there; gives a line about it."""
    out = args.work / recipe / kind
    if (out / "manifest.json").is_file():
        return f"{recipe} {kind}: already there"
    out.parent.mkdir(parents=True, exist_ok=True)
    epochs = args.cxr_epochs if kind == "cxr" else args.ct_epochs
    command = [*RADIR, "train", "--kind", kind, "--recipe", recipe, "--out", str(out), "--threads", "1"]
    command += ["--patients", str(args.patients), "--epochs", str(epochs), "--seed", str(TRAIN_SEED), "--json"]
    start = time.monotonic()
    with (out.parent / f"{kind}.log").open("w") as log:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=log, check=False)
    if done.returncode:
        raise SystemExit(f"{recipe} {kind} failed: see {log.name}")
    return f"{recipe} {kind}: {(time.monotonic() - start) / 60:.1f} min"


def compared(recipes: Sequence[str], rivals: Sequence[str], kinds: str, args: argparse.Namespace) -> dict[str, Any]:
    """``radir compare`` of the trained recipes, the first against all."""
    models = []
    for recipe in recipes:
        bundles = [args.work / recipe / kind for kind in ("cxr", "ct")]
        paths = ",".join(str(bundle) for bundle in bundles if (bundle / "manifest.json").is_file())
        models.append(f"{recipe}={'global:' if recipe in GLOBAL else ''}{paths}")
    command = [*RADIR, "compare", *models, *rivals, "--phantoms", str(EXAM_PATIENTS), "--seed", str(EXAM_SEED)]
    done = subprocess.run([*command, "--kind", kinds, "--json"], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def figures(found: dict[str, Any], judge: str, queries: str, title: str) -> list[str]:
    """One Markdown table: a row a metric, a column a model."""
    models = found["models"]
    lines = [f"### {title}", "", "| images | metric | " + " | ".join(models) + " |", "|---" * (len(models) + 2) + "|"]
    for row in found["judges"][judge][queries]["metrics"]:
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


def page(found: dict[str, Any], title: str, args: argparse.Namespace) -> str:
    """The Markdown page of a comparison."""
    tallies = found["judges"]
    of = found["of"]
    lines = [
        f"# {title}",
        "",
        f"Held-out synthetic patients ({EXAM_PATIENTS}, seed {EXAM_SEED}); trained on {args.patients} others (seed "
        f"{TRAIN_SEED}), a fifth of them kept apart for the manifests: {args.cxr_epochs} passes over radiographs, "
        f"{args.ct_epochs} over CT, one network and one seed for all. Written by `benchmarks/comparison.py`; every "
        "figure with its 95 % interval, bootstrap over patients. Decision support, not diagnosis.",
        "",
        f"## {found['ours']} wins, of {of} metrics",
        "",
        "| opponent | abnormal, judged by reports | abnormal, by true findings | all, by reports | all, by truth |",
        "|---|---|---|---|---|",
    ]
    for other in found["models"][1:]:
        wins = [
            tallies[judge][queries]["tally"][other]["wins"]
            for queries in ("abnormal", "all")
            for judge in ("mined", "true")
        ]
        lines.append(f"| {other} | " + " | ".join(str(count) for count in wins) + " |")
    if found["without_text_tower"]:
        lines += ["", f"At the random line from image to report: {', '.join(found['without_text_tower'])}."]
    lines += ["", "## Figures", ""]
    lines += figures(found, "mined", "abnormal", "Queries whose region is abnormal, judged by reports")
    lines += figures(found, "true", "abnormal", "Queries whose region is abnormal, judged by the true findings")
    lines += figures(found, "mined", "all", "All queries, judged by reports")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="keeps the trained bundles")
    parser.add_argument("--patients", type=int, default=8000)
    parser.add_argument("--cxr-epochs", type=int, default=18)
    parser.add_argument("--ct-epochs", type=int, default=14)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--only", default=",".join(RECIPES), help="recipes, ours first")
    parser.add_argument("--ablations", action="store_true", help="also ours with one thing taken away or added")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    recipes = args.only.split(",")
    wanted = [(recipe, kind) for recipe in recipes for kind in ("cxr", "ct")]
    if args.ablations:
        wanted += [(recipe, "cxr") for recipe in ABLATIONS]
    with ThreadPoolExecutor(args.jobs) as pool:
        for line in pool.map(lambda pair: train(*pair, args), wanted):
            print(line, flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    pages = [("compare", "Our recipe beside others", recipes, CHEAP, "both")]
    if args.ablations:
        pages.append(("ablation", "What each part of the recipe is worth", ["ours", *ABLATIONS], ("random",), "cxr"))
    for name, title, models, rivals, kinds in pages:
        found = compared(models, rivals, kinds, args)
        (args.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        (args.out / f"{name}.md").write_text(page(found, title, args) + "\n")
        print(f"{args.out / name}.md: {found['ours']} wins {found['wins']} of {found['of']}")


if __name__ == "__main__":
    main()
