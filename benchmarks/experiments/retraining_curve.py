"""Another hospital: does retraining on its reports help, how many does it take, and what do head and full cost?

    python -m benchmarks.experiments.retraining_curve --hospital DIR --work DIR [--reports 100,300,1000] [--json]

A part of `retraining`, whose page shows the figures. DIR is what ``radir phantom --house other`` wrote. The starter is
trained further by the pipeline's own recipe on so many of its reports, and examined beside the starter on a fifth of
the patients, who are held out as in every run. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.experiments.gate_refusals import Answers
from radir_pacs.cli.output import progress
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.encode.network import RadirNetwork, view_index
from radir_pacs.encode.tokens import token_bytes
from radir_pacs.types import ImageKind, View
from radir_training.data.folder_set import folder_set
from radir_training.data.studies import StudySet
from radir_training.learning.checkpoints import Checkpoints
from radir_training.learning.train import CPU, train
from radir_training.retraining.examination import examined
from radir_training.retraining.gates import gates
from radir_training.retraining.material import Groups
from radir_training.retraining.plan import Depth, Plan
from radir_training.retraining.snapshot import is_held_out
from radir_training.retraining.trainer import recipe_of

KIND = ImageKind.CXR
KEY = b"another hospital"  # of the hash that holds patients out
BATCH = 64  # images encoded at a time
SEED = 5
FIGURES = "curve.json"


def hospital(folder: Path, work: Path, starter: Bundle) -> StudySet:
    """Frontal radiographs with their reports, as the archive has one image for each study."""
    assert isinstance(starter.network, RadirNetwork)
    with progress(transient=True) as bar:
        task = bar.add_task("studies read", total=None)
        data = folder_set(
            starter.network.config,
            KIND,
            folder,
            cache=work / "inputs",
            processes=2,
            progress=lambda done: bar.update(task, completed=done),
        )
    return data.subset(data.views == view_index(KIND, View.FRONTAL))


def as_tokens(data: StudySet, starter: Bundle) -> StudySet:
    """The same studies as the image tokens that an archive keeps."""
    network, found = starter.network, []
    assert isinstance(network, RadirNetwork)
    with torch.inference_mode():
        for start in range(0, len(data), BATCH):
            images = torch.from_numpy(data.images[start : start + BATCH].astype(np.float32))
            views = torch.from_numpy(data.views[start : start + BATCH])
            found.append(network.kept_tokens(images, views, KIND).half().numpy())
    return replace(data, images=np.concatenate(found), encoded=True)


def shuffled(data: StudySet) -> StudySet:
    """Every report with somebody else's image."""
    order = np.random.default_rng(SEED).permutation(len(data))
    return replace(data, reports=tuple(data.reports[row] for row in order), said=tuple(data.said[row] for row in order))


class Curve:
    """Challengers by depth and number of reports, all judged on the same patients."""

    def __init__(self, data: StudySet, starter: Bundle, work: Path) -> None:
        apart = np.array([is_held_out(name, KEY) for name in data.names])
        self.starter, self.work = starter, work
        self.judged = data.subset(apart)
        self.pixels = data.subset(~apart)
        began = time.perf_counter()
        self.tokens = as_tokens(self.pixels, starter)
        self.tokens_s = time.perf_counter() - began
        self.groups = Groups(**dict.fromkeys(("sex", "age", "scanner"), (None,) * len(self.judged)))

    def challenger(self, depth: Depth, reports: int, *, wrong: bool = False) -> dict[str, Any]:
        """Trained on so many studies, the first ones by patient; ``wrong``: on shuffled reports."""
        plan = Plan.from_json({"depth": depth})
        data = (self.tokens if depth == "head" else self.pixels).subset(np.arange(reports))
        network = self.starter.network
        assert isinstance(network, RadirNetwork)
        name = name_of(depth, reports, wrong)
        with progress(transient=True) as bar:
            task = bar.add_task(name, total=1.0)
            bundle = train(
                network.config,
                shuffled(data) if wrong else data,
                recipe_of(plan, reports),
                start=self.starter,
                device=CPU,
                checkpoints=Checkpoints(self.work / "checkpoints" / name, every_s=15),
                tell=lambda step: bar.update(task, completed=step.done),
            )
        took_s = 60 * float(bundle.training["minutes"])
        made = bundle.save(self.work / name)
        found = examined(self.judged, self.groups, self.starter, made, plan)
        Answers.of(found.judged, found.exam.patients).save(self.work / f"{name}.npz")
        told = found.told
        judged = gates(plan, told, golden=True)
        return {
            "depth": depth,
            "reports": reports,
            "shuffled": wrong,
            "train_s": round(took_s, 1),
            "image_bytes": token_bytes(self.starter) if depth == "head" else 2 * int(np.prod(data.images.shape[1:])),
            "overall": told["overall"],
            "regions": told["regions"],
            "collapse": told["collapse"],
            "passed": all(gate.passed for gate in judged),
            "gates": [gate.as_json() for gate in judged],
        }


def name_of(depth: str, reports: int, wrong: bool) -> str:
    return f"{depth}-{reports}{'-shuffled' if wrong else ''}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hospital", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--reports", default="100,300,1000", metavar="N,N", help="how many to learn from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    starter = Bundle.load(default_bundles()[KIND])
    curve = Curve(hospital(args.hospital, args.work, starter), starter, args.work)
    counts = [int(word) for word in args.reports.split(",")]
    orders: list[tuple[Depth, int, bool]] = [("head", count, False) for count in counts]
    orders += [("head", counts[-1], True), *(("full", count, False) for count in counts)]
    figures: dict[str, Any] = {
        "judged_images": len(curve.judged),
        "judged_patients": len(np.unique(curve.judged.patients)),
        "to_learn_from": len(curve.pixels),
        "tokens_made_a_second": round(len(curve.tokens) / curve.tokens_s, 1),
        "runs": [],
    }
    kept = args.work / FIGURES
    if kept.exists():  # of a measurement that was interrupted
        figures["runs"] = json.loads(kept.read_text())["runs"]
    done = {name_of(run["depth"], run["reports"], run["shuffled"]) for run in figures["runs"]}
    for depth, reports, wrong in orders:
        if name_of(depth, reports, wrong) in done:
            continue
        figures["runs"].append(curve.challenger(depth, reports, wrong=wrong))
        kept.write_text(json.dumps(figures))  # what is measured so far
        last, overall = figures["runs"][-1], figures["runs"][-1]["overall"]
        line = f"{depth} {reports}{' shuffled' if wrong else ''}: {overall['champion']} to {overall['challenger']}"
        print(f"{line}, {overall['interval_95']}, {last['train_s']} s", flush=True)
    if args.json:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
