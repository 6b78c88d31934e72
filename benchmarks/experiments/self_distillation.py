"""A network of synthetic patients made steadier on real X-rays by itself, without labels (self-distillation).

    OMP_NUM_THREADS=2 python -m benchmarks.experiments.self_distillation --bundle DIR [--seeds 1,2,3]
        [--data ../shared/data] [--out docs/results]

A real X-ray that is turned by four degrees, or made a little larger, gets another vector at each region, though no more
is to be seen in it. So every real X-ray is shown to the network in 16 such ways, and the network learns to say of
any of them what it said in the mean. Synthetic patients beside them hold what it knows: there it learns to say what it
said. Text, head and severity are not trained. Real are frontal X-rays whose weights may ship, without any by which it
is judged (``real_judges``). ``--bundle``: a network of synthetic patients alone, with a backbone, as the starter was
before. Writes self-distillation.json and self-distillation.md.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from benchmarks import results
from benchmarks.experiments.real_judges import EXAM_PATIENTS, OWN, SERVED, TINY, Judges, cells, real_images
from benchmarks.experiments.real_rankings import CXR
from radir_pacs.encode import Bundle
from radir_pacs.encode.network import Output, RadirNetwork
from radir_training.commands.train import DEFAULT_CACHE
from radir_training.data.phantom_set import phantom_set
from radir_training.data.studies import StudySet
from radir_training.learning.backbone import without_backbone

LOOKS, STEPS, WARM_UP, BATCH, LEARNING_RATE = 16, 600, 50, 24, 5e-4  # BATCH: real ones, and as many synthetic
SYNTHETIC_WEIGHT, SEVERITY_WEIGHT = 2.0, 0.02
SIZE_SPREAD, DEGREES_SPREAD, SHIFT_SPREAD = 0.06, 4.0, 0.03  # shift in half image sides
CONTRAST_SPREAD, BRIGHTNESS_SPREAD = 0.08, 0.05
PATIENTS = 600
TRAINED = ("stems", "view", "blocks", "memory_norm", "decoder")
BEFORE, AFTER = "before", "made steadier"


def looked_at(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each of ``images`` [n, 1, side, side] a little larger or smaller, turned, moved, in another contrast."""

    def drawn(spread: float) -> Tensor:
        return spread * torch.randn(len(images), generator=generator).clamp(-3, 3)

    size, angle = 1 + drawn(SIZE_SPREAD), torch.deg2rad(drawn(DEGREES_SPREAD))
    along, across = torch.cos(angle) / size, torch.sin(angle) / size
    moves = torch.stack([along, -across, drawn(SHIFT_SPREAD), across, along, drawn(SHIFT_SPREAD)], 1)
    grid = functional.affine_grid(moves.reshape(-1, 2, 3), list(images.shape), align_corners=False)
    seen = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast, brightness = (drawn(spread)[:, None, None, None] for spread in (CONTRAST_SPREAD, BRIGHTNESS_SPREAD))
    return seen * (1 + contrast) + brightness


class _Asked:
    """A network of a bundle without a backbone, asked about all its regions."""

    def __init__(self, bundle: Bundle, network: RadirNetwork) -> None:
        self._network, self._queries = network, bundle.queries()
        self._regions = torch.arange(len(bundle.regions))

    def __call__(self, images: Tensor, views: Tensor) -> Output:
        out: Output = self._network(images, views, CXR, self._queries, self._regions)
        return out


def unadjusted(folder: Path) -> Bundle:
    """The bundle in ``folder``; ends the program for one that real images have adjusted already."""
    bundle = Bundle.load(folder)
    if bundle.training.get("synthetic_only") is False:
        raise SystemExit(f"error: {bundle.model_id} has learned from real images already")
    return bundle


def steadied(bundle: Bundle, real: StudySet, synthetic: StudySet, *, seed: int, steps: int = STEPS) -> Bundle:
    """``bundle``, which has no backbone, trained on so that small changes of a real image change its vectors less."""
    teacher, network = bundle.network, copy.deepcopy(bundle.network)
    assert isinstance(teacher, RadirNetwork) and isinstance(network, RadirNetwork)
    chance, chosen = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    shown, drawn = (torch.from_numpy(data.images.astype(np.float32)) for data in (real, synthetic))
    shown_views, drawn_views = (torch.from_numpy(data.views) for data in (real, synthetic))
    with torch.inference_mode():
        asked, wanted, held, severity = _Asked(bundle, teacher), [], [], []
        for images, views in zip(shown.split(BATCH), shown_views.split(BATCH), strict=True):
            looks = [images, *(looked_at(images, chance) for _ in range(LOOKS - 1))]
            wanted.append(torch.stack([asked(look, views).vectors for look in looks]).mean(0))
        for images, views in zip(drawn.split(BATCH), drawn_views.split(BATCH), strict=True):
            said = asked(images, views)
            held.append(said.vectors)
            severity.append(said.severity)
    targets, kept, kept_severity = (torch.cat(parts).clone() for parts in (wanted, held, severity))

    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(TRAINED))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    asked = _Asked(bundle, network)
    for _ in range(steps):
        rows, others = (torch.from_numpy(chosen.integers(0, len(data), BATCH)) for data in (real, synthetic))
        steady = _apart(asked(looked_at(shown[rows], chance), shown_views[rows]).vectors, targets[rows])
        said = asked(drawn[others], drawn_views[others])
        same = _apart(said.vectors, kept[others])
        as_severe = (said.severity - kept_severity[others]).square().mean()
        loss = steady + SYNTHETIC_WEIGHT * same + SEVERITY_WEIGHT * as_severe
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        schedule.step()
    return replace(bundle, network=network.requires_grad_(False).eval())


def _rate(step: int, steps: int) -> float:
    """Of the learning rate: warmed up, then falling by a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _apart(vectors: Tensor, wanted: Tensor) -> Tensor:
    return (vectors - wanted).square().sum(-1).mean()


def written(told: Mapping[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# A network made steadier on real X-rays by itself",
        "",
        f"The own network of {told['bundle']} saw each of {told['real']:,} frontal X-rays in {LOOKS} "
        "slightly different ways (size, turn, place, contrast), without labels, and was trained to say of any of "
        f"them what it had said in the mean, for {STEPS} steps of {BATCH} real images and as many synthetic ones, "
        "of which it was to say what it had said before. Severity in six lung zones, asked for the lobe, other "
        "patients only: NDCG@10 with intervals of 95 % over patients, and the paired interval of the gain. The "
        "X-rays of cxr_nih_more that judge are of patients whose images were not trained on; of cxr_cohen none "
        "was. Grades: once, by a general vision-language model. How strongly images are turned and resized was chosen "
        "with both collections in view.",
    ]
    for part in (OWN, SERVED):
        lines += [
            "",
            f"## Zones, {part}",
            "",
            "| | cxr_cohen | gain | cxr_nih_more | gain |",
            "|---|---|---|---|---|",
            f"| {BEFORE} | {cells(told['before']['zones'][part])} |",
        ]
        lines += [f"| {AFTER}, seed {seed} | {cells(one['zones'][part])} |" for seed, one in told["seeds"].items()]
    lines += [
        "",
        "## Synthetic patients",
        "",
        f"Recall@5 of abnormal queries, with the backbone, {EXAM_PATIENTS} patients of seed 2.",
        "",
        "| | judged by reports | by true findings |",
        "|---|---|---|",
    ]
    rows = [(BEFORE, told["before"]), *((f"{AFTER}, seed {seed}", one) for seed, one in told["seeds"].items())]
    for name, one in rows:
        lines.append(f"| {name} | {one['synthetic']['reports']:.3f} | {one['synthetic']['truth']:.3f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR")
    parser.add_argument("--bundle", type=Path, required=True, help="of synthetic patients alone, with a backbone")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    console, cache, starter = Console(stderr=True), args.cache.expanduser(), unadjusted(args.bundle)
    real, start = real_images(args.data, cache, console), without_backbone(starter)
    synthetic = phantom_set(TINY, CXR, patients=PATIENTS, seed=1, cache=cache)
    judges = Judges(starter, args.data, cache, console)
    before = judges.judgement(start)
    told: dict[str, Any] = {"bundle": starter.model_id, "real": len(real), "before": before.as_json(), "seeds": {}}
    for seed in args.seeds.split(","):
        after = judges.judgement(steadied(start, real, synthetic, seed=int(seed)))
        told["seeds"][seed] = after.as_json(before)
        console.print(told["seeds"][seed])
        print(results.write(args.out, "self-distillation", told, written(told)), flush=True)


if __name__ == "__main__":
    main()
