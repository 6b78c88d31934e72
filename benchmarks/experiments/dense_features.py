"""What a decoder of ours, trained on features of an encoder from elsewhere, adds to pooling them.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.dense_features [--patients 2000] [--seeds 1 2 3]
        [--materials drawn real both] [--name dense-features]

The starter's EfficientNet-lite0, exported to its map of stride 16 as in ``pooled_features``: once pooled over regions
as `radir models import --features map` does, once read by a decoder trained as `radir train --backbone` does, on
synthetic patients, on the real X-rays of cxr_nih_more with their labels (which name no place), or on both. All are
judged on the graded lung zones of cxr_cohen (``real_zones``), those that saw synthetic patients also on the ones that
are held out. Writes NAME.json and NAME.md after each training.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks import results
from benchmarks.experiments.pooled_features import EACH, ONE, OWN, STANDARDISED, STARTER, FeatureMap, paired
from benchmarks.experiments.real_rankings import (
    CXR,
    LOBES,
    RANDOM,
    SIDE,
    ZONE_PIXELS,
    Images,
    Vectors,
    cosines,
    graded,
    joined,
    of_bundle,
    of_pixels,
    unit,
)
from benchmarks.experiments.real_zones import COHEN, NIH, by_grade
from radir_pacs import anatomy
from radir_pacs.anatomy import ROOT
from radir_pacs.encode import CONFIGS, Bundle, default_bundles
from radir_pacs.encode.config import VIEWS
from radir_pacs.encode.import_program import Program, ProgramRequest, import_program
from radir_pacs.encode.onnx_regions import Features
from radir_pacs.encode.places import place
from radir_pacs.encode.program import ProgramStem
from radir_training.commands.train import DEFAULT_CACHE
from radir_training.data.phantom_set import phantom_set
from radir_training.data.program_features import with_features
from radir_training.data.statements import Relevance, model_regions
from radir_training.data.studies import StudySet
from radir_training.evaluation.baselines import pixels
from radir_training.evaluation.embeddings import Embeddings, encoded
from radir_training.evaluation.measures import F32
from radir_training.evaluation.quick import abnormal_recall
from radir_training.evaluation.resample import Bootstrap, Resampled
from radir_training.learning.recipe import OURS
from radir_training.learning.train import Step, train
from radir_training.runs.held_out import split

PIXELS = "pixels"


MATERIALS = {"drawn": "drawn X-rays", "real": "labelled real X-rays", "both": "both"}


def trained_on(material: str, seed: int) -> str:
    return f"our decoder, trained on {MATERIALS[material]}, seed {seed}"


def opened(starter: Bundle, folder: Path) -> Program:
    file = folder / "features.onnx"
    image = torch.zeros(1, 1, SIDE, SIDE)
    torch.onnx.export(FeatureMap(starter).eval(), (image,), file, dynamo=False, opset_version=18)
    patient = 60.0  # seconds an image: the machine may be busy
    how = starter.preprocessing
    return import_program(file, ProgramRequest(preprocessing=how, features=Features.MAP, slowest_s=patient))


def zones(ways: Mapping[str, Vectors | None], images: Images, grades: Mapping[str, Any]) -> dict[str, Resampled]:
    """NDCG@10 and the mean difference of the first three, resampled over patients."""
    apart = images.patients[:, None] != images.patients[None]
    bootstrap = Bootstrap(images.patients, 0)
    everyone = np.arange(len(images))
    return {
        name: bootstrap.resampled(
            by_grade(apart, grades, grades, None if vectors is None else cosines(vectors)), everyone
        )
        for name, vectors in ways.items()
    }


def figures(found: Mapping[str, Resampled]) -> dict[str, Any]:
    told = {}
    for name, one in found.items():
        low, high = one.interval()
        told[name] = {
            "ndcg": round(float(one.mean[0]), 4),
            "interval_95": [round(float(low[0]), 4), round(float(high[0]), 4)],
            "difference": round(float(one.mean[1]), 4),
            "less": {
                other: [round(float(edge), 4) for edge in np.percentile(one.draws[:, 0] - its.draws[:, 0], [2.5, 97.5])]
                for other, its in found.items()
                if other != name
            },
        }
    return told


def synthetic(found: Mapping[str, Embeddings], data: StudySet, keys: Sequence[str]) -> dict[str, Any]:
    """Recall@5 at abnormal regions of held-out synthetic patients, by the truth."""
    assert data.true is not None
    relevance = Relevance.of(data.true, keys)
    regions = [anatomy.region(key) for key in keys]
    told = {}
    for name, one in found.items():
        vectors = np.stack([one.of(key) for key in keys], axis=1)
        judged = abnormal_recall(vectors, data, relevance, regions)
        told[name] = {part: judged[part] for part in ("recall", "interval_95", "random")}
    return told


def pooled(features: StudySet, grid: Sequence[int], keys: Sequence[str]) -> dict[str, F32]:
    """Unit vectors by region, as the ONNX of ``by_region`` answers them: mean and spread where the region lies, or, of
    a lateral view, of the whole picture."""
    cells = features.images.shape[1]
    lateral = (features.views == VIEWS.index("lateral"))[:, None]
    found = {}
    for key in keys:
        share = np.where(lateral, 1 / cells, place(key, grid)[None]).astype(np.float32)
        maps = features.images.astype(np.float32)
        mean = np.einsum("np,npc->nc", share, maps)
        spread = np.sqrt(np.einsum("np,npc->nc", share, np.square(maps - mean[:, None])))
        found[key] = unit(np.concatenate([mean, spread], axis=1))
    return found


def standardised(vectors: Mapping[str, F32]) -> dict[str, F32]:
    return {key: unit((one - one.mean(0)) / (one.std(0) + 1e-6)) for key, one in vectors.items()}


def measured(args: argparse.Namespace, console: Console, folder: Path) -> None:
    cache = args.cache.expanduser()
    starter = Bundle.load(default_bundles()[CXR])
    program = opened(starter, folder)
    stems = {CXR: program.config}
    config = replace(CONFIGS["tiny"].only(CXR), name="lite0", stems=stems, blocks=args.blocks)
    stem = ProgramStem(program.config, config.width, program.content)
    grid = program.config.grid
    drawn = phantom_set(config, CXR, patients=args.patients, seed=args.phantom_seed, cache=cache, processes=args.jobs)
    learned, apart = split(drawn, args.phantom_seed)
    console.print(f"{len(learned)} images to train on, {len(apart)} held out")
    began = time.process_time()
    features = with_features(learned, stem, cache)
    features_s = (time.process_time() - began) / len(learned)
    apart_features = with_features(apart, stem, cache)
    console.print(f"features: {1000 * features_s:.1f} ms per image, of processor time")

    images = Images.read(args.data / COHEN, [SIDE], cache, console)
    rows, grades = graded(images, COHEN)
    images = images.subset(rows)
    real = with_features(images.by_side[SIDE], stem, cache)
    each = pooled(real, grid, (ROOT, *LOBES))
    even = standardised(each)
    ways: dict[str, Vectors | None] = {
        RANDOM: None,
        ZONE_PIXELS: of_pixels(images.by_side[SIDE].images.astype(np.float32), zone=True),
        ONE: lambda key: each[ROOT],
        EACH: lambda key: each[key],
        STANDARDISED: lambda key: even[key],
        OWN: of_bundle(starter, images, own=True),
        STARTER: of_bundle(starter, images),
    }
    keys = [region.key for region in model_regions(CXR, learned.said)]
    flat = pooled(apart_features, grid, keys)
    level = standardised(flat)
    held: dict[str, Embeddings] = {
        PIXELS: pixels(apart),
        EACH: Embeddings(image=flat[ROOT], regions=flat),
        STANDARDISED: Embeddings(image=level[ROOT], regions=level),
        STARTER: encoded(starter, apart),
    }
    console.print("the comparators are there")
    materials = {"drawn": features}
    if args.materials != ["drawn"]:
        labelled = Images.read(args.data / NIH, [SIDE], cache, console).by_side[SIDE]
        materials["real"] = with_features(labelled, stem, cache)
        materials["both"] = replace(joined(features, materials["real"]), features=True)
    told: dict[str, Any] = {
        "images": len(images),
        "patients": len(np.unique(images.patients)),
        "trained_on": {material: counted(materials[material]) for material in args.materials},
        "epochs": args.epochs,
        "blocks": args.blocks,
        "held_out": counted(apart),
        "seeds": {material: [] for material in args.materials},
        "train_processor_s": {material: [] for material in args.materials},
    }
    for material, seed in ((material, seed) for material in args.materials for seed in args.seeds):
        began = time.process_time()
        recipe = replace(OURS, seed=seed, epochs=args.epochs, augment=False)

        def tell(step: Step) -> None:
            if step.number % 20 == 0:
                console.print(f"step {step.number}: {time.process_time() - began:.0f} s {step.losses}", soft_wrap=True)  # noqa: B023  called within this turn

        bundle = train(config, materials[material], recipe, program=program.content, tell=tell)
        told["train_processor_s"][material].append(round(time.process_time() - began))
        name = trained_on(material, seed)
        ways[name] = known(encoded(bundle, real), frozenset(region.key for region in bundle.regions))
        if material != "real":  # else it never saw a drawn image
            held[name] = encoded(bundle, apart_features)
        told["seeds"][material].append(seed)
        told["zones"] = figures(zones(ways, images, grades))
        told["synthetic"] = synthetic(held, apart, keys)
        console.print(f"{results.write(args.out, args.name, told, written(told))} written")


def counted(data: StudySet) -> dict[str, int]:
    return {"images": len(data), "patients": len(np.unique(data.patients))}


def known(found: Embeddings, keys: frozenset[str]) -> Vectors:
    """By zone; where the network does not know it, the nearest region that it knows."""
    return lambda key: unit(found.of(key if key in keys else LOBES.get(key, key)))


def above(zones: Mapping[str, Any]) -> str:
    """Which ways that train nothing here the starter beats with the whole paired interval, and which it does not."""
    less = {name: zones[STARTER]["less"][name] for name in (ZONE_PIXELS, ONE, EACH, STANDARDISED, OWN)}
    beaten = ", ".join(f"“{name}”" for name, edges in less.items() if edges[0] > 0)
    level = "; ".join(f"“{name}” ({paired(edges)})" for name, edges in less.items() if edges[0] <= 0)
    return f"The starter is above with its whole paired interval: {beaten or 'none'}. Not above: {level or 'none'}."


def written(found: Mapping[str, Any]) -> str:
    """The Markdown page."""
    learned, held = found["trained_on"], found["held_out"]
    took = (f"{MATERIALS[name]} {', '.join(map(str, each))}" for name, each in found["train_processor_s"].items())
    said = "; ".join(
        f"{MATERIALS[material]}: {one['images']} of {one['patients']} patients" for material, one in learned.items()
    )
    lines = [
        "# A decoder of ours on features of an encoder from elsewhere",
        "",
        "EfficientNet-lite0, which saw photographs only, exported to its feature map of stride 16: pooled over each "
        "region's outline, as `radir models import --features map` does, and read by our decoder, as `radir train "
        f"--backbone` does. The decoder was trained {found['epochs']} times over: {said}. Drawn X-rays come with their "
        "reports; the real ones, of cxr_nih_more, with labels of the whole picture, which name no place.",
        "",
        "## Real X-rays",
        "",
        f"{found['images']} frontal X-rays of {found['patients']} patients of cxr_cohen, six lung zones graded 0 to 3 "
        "(once, by a general vision-language model), other patients only: NDCG@10 with intervals of 95 % over "
        "patients, and the mean difference of the first three. The last two columns are the paired intervals of the "
        "difference in NDCG@10 from pooling, as it is served and standardised.",
        "",
        "| ranking by | NDCG@10 | difference | less pooling | less pooling, standardised |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["zones"].items():
        edges = one["interval_95"]
        value = f"{one['ndcg']:.3f} [{edges[0]:.3f}, {edges[1]:.3f}]"
        less = " | ".join(paired(one["less"].get(other)) for other in (EACH, STANDARDISED))
        lines.append(f"| {name} | {value} | {one['difference']:.2f} | {less} |")
    lines += [
        "",
        above(found["zones"]),
        "",
        f"“{EACH}” is what `radir models import --features map` serves. Only training varies between seeds, not who is "
        "held out.",
        "",
        "## Synthetic patients that were held out",
        "",
        f"{held['images']} X-rays of {held['patients']} patients, questions whose region is abnormal, judged "
        "by the truth: recall at 5.",
        "",
        "| ranking by | recall at 5 | random |",
        "|---|---|---|",
    ]
    for name, one in found["synthetic"].items():
        low, high = one["interval_95"]
        lines.append(f"| {name} | {one['recall']:.3f} [{low:.3f}, {high:.3f}] | {one['random']:.3f} |")
    lines += [
        "",
        "The starter was trained on other synthetic patients, and on many more, with a stem of its own.",
        "",
        f"Seconds of processor time that each training took, on one thread: {'; '.join(took)}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--patients", type=int, default=2000, metavar="N", help="synthetic, a fifth held out")
    parser.add_argument("--phantom-seed", type=int, default=2, metavar="S", help="not one that the starter knows")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that draw patients")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S")
    parser.add_argument("--materials", nargs="+", choices=MATERIALS, default=["drawn"], help="to train on (drawn)")
    parser.add_argument("--epochs", type=int, default=OURS.epochs, metavar="N")
    parser.add_argument("--blocks", type=int, default=0, metavar="N", help="of self-attention between the features")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--name", default="dense-features", help="of the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured(args, Console(stderr=True, width=140), Path(folder))


if __name__ == "__main__":
    main()
