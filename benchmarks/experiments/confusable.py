"""Cases that differ only in which of two alike conditions they have: does the starter tell them apart?

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.confusable [--patients 24] [--seeds 11 12 13]
        [--out docs/results]

Writes confusable.json and confusable.md; nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import results
from radir_pacs.cli.output import bars
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.types import ImageKind
from radir_training.evaluation.confusable import PAIRS, PAIRWISE, REGION, WHOLE, ZONE_PIXELS, examined, table


def written(found: Mapping[str, Any]) -> str:
    """The Markdown page."""
    seeds = ", ".join(map(str, found["seeds"]))
    told = [name for name, figures in found["pairs"].items() if _low(figures[REGION]) > _high(figures[ZONE_PIXELS])]
    above = [name for name, figures in found["pairs"].items() if _low(figures[REGION]) > found["chance"]]
    better_whole = [name for name, figures in found["pairs"].items() if _low(figures[WHOLE]) > _high(figures[REGION])]
    lines = [
        "# Confusable conditions",
        "",
        f"{found['model']} on radiographs of {found['patients']} synthetic patients of each of the seeds {seeds}. Each "
        "patient is imaged twice, with the one and with the other of two alike conditions: in one place where both "
        "have a place, of one severity, with the same noise, and without any other finding. A query is one image, "
        "candidates are both images of every other patient of its seed. *R@1*: the first candidate has the query's "
        "condition. *Pairwise accuracy*: of another patient's two images the one with the query's condition scores "
        "higher. Intervals are of 95 %, bootstrap over the patients who ask; bold: above chance with the whole "
        "interval. No seed was used in training. `radir evaluate MODEL --exam confusable --phantoms N` asks the same "
        "of any model.",
        "",
        *table(found),
        "",
        "By pairwise accuracy, the region's vectors lie above the pixels of the region with intervals that do not "
        f"overlap for {_listed(told)}, and above chance with the whole interval for {_listed(above)}. The whole "
        f"chest's vectors lie above them with intervals that do not overlap for {_listed(better_whole)}: nobody here "
        "has another finding that would distract, and an effusion belongs to the pleura more than to a zone of the "
        "lung.",
        "",
        "## By seed: pairwise accuracy of the region's vectors",
        "",
        f"| conditions | {' | '.join(map(str, found['seeds']))} |",
        "|---" * (1 + len(found["seeds"])) + "|",
    ]
    for name, figures in found["pairs"].items():
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in figures[REGION][PAIRWISE]['by_seed'])} |")
    lines += ["", "## What cannot be examined so", ""]
    lines += [f"- {name}: {why}." for name, why in found["cannot"].items()]
    lines += [
        "",
        "Synthetic conditions are drawn more alike from patient to patient than real ones are; a figure here says what "
        "the network can tell apart at best. Decision support, not diagnosis.",
    ]
    return "\n".join(lines)


def _low(figures: Mapping[str, Any]) -> float:
    return float(figures[PAIRWISE]["interval_95"][0])


def _high(figures: Mapping[str, Any]) -> float:
    return float(figures[PAIRWISE]["interval_95"][1])


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none of the pairs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=(11, 12, 13))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    bundle = Bundle.load(default_bundles()[ImageKind.CXR])
    with bars() as start_bar:
        advance = start_bar("pairs and seeds", len(PAIRS) * len(args.seeds))
        found = examined(bundle, seeds=args.seeds, patients=args.patients, progress=advance)
    print(f"{results.write(args.out, 'confusable', found, written(found))} written")


if __name__ == "__main__":
    main()
