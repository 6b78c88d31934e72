"""Real X-rays with real notes: does retraining on them help, by five folds of patients?

    python -m benchmarks.experiments.retraining_real --data ../shared/data --work DIR [--out docs/results]

The starter's head is trained further, by the pipeline's own recipe, on image tokens and notes of four fifths of the
patients; the others ask, each against all images of the collection, and the starter answers the same questions.
Judged by the mined notes, or by labels as words where a collection has no notes. On all notes with three seeds of the
training, on fewer notes, and on shuffled ones. What is measured is kept after each; nothing that is trained is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import results
from benchmarks.experiments.gate_refusals import Answers
from benchmarks.experiments.retraining_curve import as_tokens, hospital, shuffled
from radir_pacs.cli.output import progress
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.types import ImageKind
from radir_training.data.studies import StudySet
from radir_training.evaluation.embeddings import encoded
from radir_training.evaluation.exam import Exam, region_name
from radir_training.evaluation.regions import TRIVIAL, candidates
from radir_training.evaluation.resample import Bootstrap
from radir_training.learning.checkpoints import Checkpoints
from radir_training.learning.train import CPU, train
from radir_training.retraining.examination import Judged, judged_region, mean_of_regions, paired_region
from radir_training.retraining.plan import Plan
from radir_training.retraining.trainer import recipe_of

COLLECTIONS = {"cxr_cohen": "clinical notes", "cxr_nih_more": "labels as words"}
FOLDS = 5
LEAST_QUERIES = 20
FIGURES = "real.json"
NEAR_CHANCE = 0.05  # Recall of the starter above that of a random order


@dataclass(frozen=True)
class Order:
    """A training in each fold; ``reports``: of so many images at most, 0: of all that are not in the fold."""

    seed: int = 0
    reports: int = 0
    shuffled: bool = False

    def __str__(self) -> str:
        return f"{self.seed}-{self.reports or 'all'}{'-shuffled' if self.shuffled else ''}"


ORDERS = (  # what says most comes first
    Order(),
    Order(reports=100),
    Order(reports=300),
    Order(reports=1000),
    Order(reports=3000),
    Order(shuffled=True),
    Order(seed=1),
    Order(seed=2),
)


def folds_of(data: StudySet) -> Any:
    """The fold of each image [n]: patients are dealt in a random order that stays the same."""
    people, person = np.unique(data.patients, return_inverse=True)
    dealt = np.random.default_rng(0).permutation(len(people)) % FOLDS
    return dealt[person]


class Collection:
    """One collection as tokens; the starter's answers and those of challengers to the same questions."""

    def __init__(self, name: str, data: StudySet, starter: Bundle, work: Path) -> None:
        self.name, self.starter, self.work = name, starter, work
        self.data = as_tokens(data, starter)
        self.folds = folds_of(data)
        self.exam = Exam.of(self.data)
        self.before = encoded(starter, self.data)
        self.asked = [
            one for one in candidates(self.exam) if one.queries.sum() >= LEAST_QUERIES and one.chance <= TRIVIAL
        ]

    def counted(self) -> dict[str, int]:
        people = len(np.unique(self.data.patients))
        return {"images": len(self.data), "patients": people, "regions": len(self.asked)}

    def may(self, order: Order) -> bool:
        """Whether there are more images than the order asks for."""
        return order.reports < min(int((self.folds != fold).sum()) for fold in range(FOLDS))

    def challenger(self, fold: int, order: Order) -> Bundle:
        network = self.starter.network
        assert isinstance(network, RadirNetwork)
        plan = Plan.from_json({"depth": "head", "recipe": {"seed": order.seed}})
        rows = np.flatnonzero(self.folds != fold)
        if order.reports:  # all images of a patient, then the next patient's
            place = np.random.default_rng(1).permutation(int(self.data.patients.max()) + 1)[self.data.patients[rows]]
            rows = np.sort(rows[np.argsort(place, kind="stable")][: order.reports])
        data = self.data.subset(rows)
        name = f"{self.name}-{fold}-{order}"
        with progress(transient=True) as bar:
            task = bar.add_task(name, total=1.0)
            return train(
                network.config,
                shuffled(data) if order.shuffled else data,
                recipe_of(plan, len(data)),
                start=self.starter,
                device=CPU,
                checkpoints=Checkpoints(self.work / "checkpoints" / name, every_s=60),
                tell=lambda step: bar.update(task, completed=step.done),
            )

    def judged(self, order: Order) -> dict[str, Any]:
        """Every question is asked of the challenger that never saw its patient."""
        k = Plan().gates.k
        parts: list[list[Judged]] = [[] for _ in self.asked]
        for fold in range(FOLDS):
            after = encoded(self.challenger(fold, order), self.data)
            for part, region in zip(parts, self.asked, strict=True):
                found = judged_region(self.exam, region, self.before, after, k)
                mine = self.folds[found.rows] == fold
                part.append(
                    Judged(
                        key=found.key,
                        rows=found.rows[mine],
                        champion=found.champion[mine],
                        challenger=found.challenger[mine],
                        random=found.random[mine],
                    )
                )
        whole = [_joined(part) for part in parts]
        Answers.of(whole, self.exam.patients).save(self.work / f"{self.name}-{order}.npz")
        bootstrap = Bootstrap(self.exam.patients, order.seed)
        return {
            **asdict(order),
            "overall": vars(mean_of_regions(bootstrap, whole)),
            "regions": {one.key: vars(paired_region(bootstrap, one)) for one in whole},
        }


def _joined(parts: Sequence[Judged]) -> Judged:
    return Judged(
        key=parts[0].key,
        rows=np.concatenate([one.rows for one in parts]),
        champion=np.concatenate([one.champion for one in parts]),
        challenger=np.concatenate([one.challenger for one in parts]),
        random=np.concatenate([one.random for one in parts]),
    )


def _name(order: Order) -> str:
    learned_from = str(order.reports) if order.reports else f"all, seed {order.seed}"
    return learned_from + (", shuffled" if order.shuffled else "")


def _says_little(told: dict[str, Any]) -> str:
    """What a sceptic must know first: how far the starter stands above chance, and of how many regions that is."""
    stands = []
    for name, found in told.items():
        if found["runs"]:
            one = found["runs"][0]["overall"]
            stands.append(
                f"{one['champion']:.3f} where chance finds {one['random']:.3f} on {name} "
                f"({found['regions']} regions judged)"
            )
    if not stands:
        return "Nothing is measured yet."
    near = [found["runs"][0]["overall"] for found in told.values() if found["runs"]]
    if any(one["champion"] - one["random"] >= NEAR_CHANCE for one in near):
        return f"The starter's Recall@{Plan().gates.k}: {'; '.join(stands)}."
    return (
        f"**This page says little.** The starter is near random on these collections: its Recall@{Plan().gates.k} is "
        f"{', and '.join(stands)}. So there is hardly anything to lose here, and that no challenger is certainly worse "
        "does not show that retraining on real notes is safe."
    )


def page(told: dict[str, Any]) -> str:
    parts = [
        "# Retraining on real X-rays",
        _says_little(told),
        "The starter's head trained further on image tokens and notes of four fifths of the patients, five folds by "
        f"patient; the patients of the other fold ask, against all images of the collection. Recall@{Plan().gates.k} "
        "of queries whose region is abnormal, mean of the regions; the paired difference with its 95 % bootstrap "
        "interval over patients. A starter that stands near random on a collection has little to lose there, and a "
        "challenger that does not pass it has learned nothing that these notes can show. Nothing of this training was "
        "chosen by these images; where and how much the starter's backbone counts was chosen with cxr_cohen, and half "
        "of cxr_nih_more has scaled it.",
    ]
    for name, found in told.items():
        rows = [
            f"## {name}",
            f"{found['images']} frontal images of {found['patients']} patients, judged by {COLLECTIONS[name]}; "
            f"{found['regions']} regions with at least {LEAST_QUERIES} such queries.",
            "| notes learned from | queries | random | starter | challenger | difference | regions worse by interval |",
            "|---|---|---|---|---|---|---|",
        ]
        for run in found["runs"]:
            one = run["overall"]
            worse = [
                region_name(key) for key, of in run["regions"].items() if of["interval_95"] and of["interval_95"][1] < 0
            ]
            what = _name(Order(run["seed"], run["reports"], run["shuffled"]))
            figures = " | ".join(f"{one[key]:.3f}" for key in ("random", "champion", "challenger"))
            low, high = one["interval_95"]
            rows.append(
                f"| {what} | {one['queries']} | {figures} | {one['difference']:+.3f} ({low:+.3f} to {high:+.3f}) "
                f"| {', '.join(worse) or 'none'} |"
            )
        parts += [rows[0], rows[1], "\n".join(rows[2:])]
        done = [Order(run["seed"], run["reports"], run["shuffled"]) for run in found["runs"]]
        enough = found["images"] * (FOLDS - 1) / FOLDS
        if left := [_name(order) for order in ORDERS if order not in done and order.reports < enough]:
            parts.append(f"Not measured: {'; '.join(left)}.")
    for name in sorted(COLLECTIONS.keys() - told.keys()):
        parts += [f"## {name}", "Not measured."]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--collections", default=",".join(COLLECTIONS), metavar="NAMES")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--page-only", action="store_true", help="measure nothing: the page of what is measured so far")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page is written, such as docs/results")
    args = parser.parse_args(arguments)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    starter, kept = Bundle.load(default_bundles()[ImageKind.CXR]), args.work / FIGURES
    told: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    names = [] if args.page_only else args.collections.split(",")
    collections = [
        Collection(name, hospital(args.data / name, args.work, starter), starter, args.work) for name in names
    ]
    for order in ORDERS:
        for collection in collections:
            found = told.setdefault(collection.name, {"runs": []})
            found |= collection.counted()
            done = [Order(run["seed"], run["reports"], run["shuffled"]) for run in found["runs"]]
            if order in done or not collection.may(order):
                continue
            found["runs"].append(collection.judged(order))
            kept.write_text(json.dumps(told))  # what is measured so far
            print(collection.name, order, found["runs"][-1]["overall"], flush=True)
    if args.out:
        print(results.write(args.out, "retraining-real", told, page(told)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
