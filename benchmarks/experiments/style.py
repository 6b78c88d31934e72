"""The look of real X-rays moved onto synthetic ones: can they be told apart, and does training on it find more?

    OMP_NUM_THREADS=2 python -m benchmarks.experiments.style [--seeds 1,2,3] [--data DIR] [--out docs/results]

Real are frontal X-rays (cxr_hannover, cxr_nih, and those of cxr_nih_more by which the starter's backbone was
measured), synthetic the frontal ones of the patients that ``real_images`` trains with. Moved are, one after the other:
the histogram of greys, then the amplitude at each spatial frequency, each that of a real image drawn at random. How far
the looks still differ is the area under the ROC curve of a ridge on EfficientNet-lite0's features of the whole image,
five folds by patient; 0.5 would be alike. Then the starter without its backbone is trained on for a few passes, on the
synthetic patients as they are (the control) and as they are with their restyled copies, and is judged on the graded
lung zones of cxr_cohen and of the other patients of cxr_nih_more, and on synthetic patients. Writes style.json and
style.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks import results
from benchmarks.experiments.auc import auc
from benchmarks.experiments.real_images import trained_on
from benchmarks.experiments.real_judges import EXAM_PATIENTS, SERVED, TINY, Judges, cells, frontal, real_images
from benchmarks.experiments.real_rankings import CXR, joined
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.encode.network import RadirNetwork
from radir_training.commands.train import DEFAULT_CACHE
from radir_training.data.phantom_set import phantom_set
from radir_training.data.studies import StudySet
from radir_training.evaluation.measures import F32, I64
from radir_training.evaluation.resample import Bootstrap, Resampled
from radir_training.learning.backbone import without_backbone

FOLDS, RIDGE, RINGS = 5, 10.0, 48
PATIENTS = 600
PLAIN, GREYS, FREQUENCIES = "as drawn", "greys", "greys and frequencies"
BEFORE, CONTROL, RESTYLED = "before", "trained on, as drawn", "trained on, as drawn and restyled"
Restyle = Callable[[F32, F32], F32]  # a synthetic image and a real one [side, side] to the first in the second's look


def greys(image: F32, like: F32) -> F32:
    """The image with the histogram of another one."""
    order = np.argsort(image, axis=None, kind="stable")
    found = np.empty(image.size, np.float32)
    found[order] = np.sort(like, axis=None)
    return found.reshape(image.shape)


def greys_and_frequencies(image: F32, like: F32) -> F32:
    """The image with the mean amplitude of another one in each ring of spatial frequencies, then with its histogram."""
    spectrum, other = np.fft.fft2(greys(image, like)), np.fft.fft2(like)
    reach = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in image.shape), indexing="ij"))
    ring = np.minimum((reach / 0.5 * RINGS).astype(np.int64), RINGS - 1)
    own, wanted = (np.bincount(ring.ravel(), np.abs(one).ravel(), RINGS) for one in (spectrum, other))
    factor = np.divide(wanted, own, out=np.ones(RINGS), where=own > 0)
    moved = np.fft.ifft2(spectrum * factor[ring]).real.astype(np.float32)
    return greys(moved, like)


STYLES: Mapping[str, Restyle | None] = {PLAIN: None, GREYS: greys, FREQUENCIES: greys_and_frequencies}


def restyled(images: F32, real: F32, way: Restyle | None, seed: int) -> F32:
    """Each of ``images`` [n, side, side] in the look of one of ``real``, drawn at random."""
    if way is None:
        return images
    chosen = np.random.default_rng(seed).integers(0, len(real), len(images))
    return np.stack([way(image, real[number]) for image, number in zip(images, chosen, strict=True)])


@torch.inference_mode()
def looks(starter: Bundle, images: F32) -> F32:
    """Mean and spread of the backbone's features over whole images [n, side, side], each shown at twice its side."""
    assert isinstance(starter.network, RadirNetwork) and starter.network.appearance is not None
    appearance = starter.network.appearance
    parts = []
    for start in range(0, len(images), 16):
        shown = torch.from_numpy(images[start : start + 16])[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3)
        parts.append(appearance.features(shown, torch.ones(len(shown), dtype=torch.bool))[:, 0])
    return torch.cat(parts).numpy()


def told_apart(one: F32, other: F32, patients: I64, seed: int) -> Resampled:
    """The area under the ROC curve of a ridge that tells rows of ``one`` from rows of ``other`` by their features."""
    features, there = np.concatenate([one, other]), np.arange(len(one) + len(other)) < len(one)
    people = np.random.default_rng(seed).permutation(np.unique(patients))
    scores = np.zeros(len(features), np.float32)
    for fold in range(FOLDS):
        asked = np.isin(patients, people[fold::FOLDS])
        mean, scale = features[~asked].mean(0), features[~asked].std(0) + 1e-6
        known, target = (features[~asked] - mean) / scale, there[~asked] - there[~asked].mean()
        weights = np.linalg.solve(known.T @ known + RIDGE * np.eye(known.shape[1]), known.T @ target)
        scores[asked] = ((features[asked] - mean) / scale) @ weights
    return auc(scores, there, Bootstrap(patients, seed), np.arange(len(there)))


def areas(starter: Bundle, drawn: F32, real: F32, drawn_people: I64, real_people: I64) -> dict[str, Any]:
    """How well each style of ``drawn`` images [n, side, side] is told from ``real`` ones, with its interval."""
    people = np.concatenate([drawn_people, real_people + drawn_people.max() + 1])
    of_real = looks(starter, real)
    found: dict[str, Any] = {}
    for name, way in STYLES.items():
        area = told_apart(looks(starter, restyled(drawn, real, way, 0)), of_real, people, 0)
        low, high = area.interval()
        found[name] = {
            "area": round(float(area.mean), 4),
            "interval_95": [round(float(low), 4), round(float(high), 4)],
        }
    return found


def _planes(data: StudySet) -> F32:
    return data.images[:, 0].astype(np.float32)


def written(told: Mapping[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# The look of real X-rays, moved onto synthetic ones",
        "",
        f"{told['real']} real and {told['synthetic']} synthetic frontal X-rays, told apart by a ridge on "
        "EfficientNet-lite0's features of the whole image, five folds by patient. 0.5 would be alike.",
        "",
        "| synthetic X-rays | area under the ROC curve |",
        "|---|---|",
    ]
    for name, one in told["told_apart"].items():
        low, high = one["interval_95"]
        lines.append(f"| {name} | {one['area']:.3f} [{low:.3f}, {high:.3f}] |")
    lines += [
        "",
        f"The own network of {told['bundle']}, trained on for {told['epochs']} passes over {told['patients']} "
        "synthetic patients as they were drawn (the control), or for as many steps over these and their copies "
        "in the look of real ones (greys and frequencies), then judged with its backbone. NDCG@10 of severity in "
        "six lung zones, asked for the lobe, other patients only, with intervals of 95 % over patients, and the "
        f"paired interval of the gain over the control; Recall@5 of abnormal queries of {EXAM_PATIENTS} other "
        "synthetic patients, judged by reports.",
        "",
        "| seed | network | cxr_cohen | gain | cxr_nih_more | gain | synthetic |",
        "|---|---|---|---|---|---|---|",
        f"| | {BEFORE} | {cells(told['before']['zones'][SERVED])} | {told['before']['synthetic']['reports']:.3f} |",
    ]
    for seed, networks in told["trained"].items():
        for name, one in networks.items():
            lines.append(f"| {seed} | {name} | {cells(one['zones'][SERVED])} | {one['synthetic']['reports']:.3f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    console, cache = Console(stderr=True), args.cache.expanduser()
    starter = Bundle.load(default_bundles()[CXR])
    real, start = real_images(args.data, cache, console), without_backbone(starter)
    drawn = phantom_set(TINY, CXR, patients=PATIENTS, seed=1, cache=cache)
    shown = frontal(drawn)
    told: dict[str, Any] = {
        "bundle": starter.model_id,
        "real": len(real),
        "synthetic": len(shown),
        "patients": PATIENTS,
        "epochs": args.epochs,
    }
    told["told_apart"] = areas(starter, _planes(shown), _planes(real), shown.patients, real.patients)
    console.print(told["told_apart"])
    judges = Judges(starter, args.data, cache, console)
    told |= {"before": judges.judgement(start).as_json(), "trained": {}}
    for seed in map(int, args.seeds.split(",")):
        moved = restyled(_planes(shown), _planes(real), greys_and_frequencies, seed)[:, None].astype(np.float16)
        # A copy counts as another patient, which no loss asks about. `joined` leaves out what is true, for both alike.
        both = joined(drawn, replace(shown, images=moved))
        fewer = args.epochs * len(drawn) // len(both)  # passes, for as many steps
        control = judges.judgement(trained_on(start, joined(drawn), epochs=args.epochs, seed=seed, batch=32))
        other = judges.judgement(trained_on(start, both, epochs=fewer, seed=seed, batch=32))
        told["trained"][str(seed)] = {CONTROL: control.as_json(), RESTYLED: other.as_json(control)}
        console.print(told["trained"][str(seed)])
        print(results.write(args.out, "style", told, written(told)), flush=True)


if __name__ == "__main__":
    main()
