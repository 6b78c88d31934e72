"""An encoder from elsewhere, one vector for all regions or one for each: what importing its feature map is worth.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.pooled_features [--data ../shared/data] [--out docs/results]

Exports the starter's EfficientNet-lite0 to ONNX, to its map of stride 16, imports it as a hospital would an encoder of
its own, and judges it on the graded lung zones of cxr_cohen (``real_zones``) and on those of the patients of
cxr_nih_more by whom the backbone was not measured. Writes pooled-features.json and pooled-features.md. Nothing is
trained.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks import results
from benchmarks.experiments.real_rankings import (
    COHEN,
    LOBES,
    NIH,
    RANDOM,
    SIDE,
    ZONE_PIXELS,
    Images,
    Vectors,
    cosines,
    judging,
    of_bundle,
    of_pixels,
    unit,
)
from benchmarks.experiments.real_zones import by_grade
from radir_pacs import anatomy
from radir_pacs.anatomy import ROOT
from radir_pacs.encode import Bundle, default_bundles
from radir_pacs.encode.appearance import LEAST_RANGE
from radir_pacs.encode.import_model import ImportRequest, import_model
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.encode.onnx_regions import Features
from radir_pacs.types import ImageKind
from radir_training.commands.train import DEFAULT_CACHE
from radir_training.evaluation.embeddings import encoded
from radir_training.evaluation.resample import Bootstrap, Resampled

ONE, EACH = "one vector for all regions", "a vector for each region"
STANDARDISED = "each region, standardised over these images"
STARTER = "the starter"
SERVED = "the starter as served: asked for the lung in the zones that it does not know"
LOBE = "the starter, asked for the lobe in each zone"
OWN = "the starter without its backbone"
OWN_LOBE = "the starter without its backbone, asked for the lobe in each zone"


class FeatureMap(nn.Module):
    """The starter's backbone: an image [1, 1, H, W] to a map [1, c, H / 16, W / 16], prepared in the graph."""

    def __init__(self, starter: Bundle) -> None:
        super().__init__()
        assert isinstance(starter.network, RadirNetwork) and starter.network.appearance is not None
        self.backbone = starter.network.appearance.backbone

    def forward(self, image: Tensor) -> Tensor:
        low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
        shown = 2 * (image - low) / (high - low).clamp(min=LEAST_RANGE) - 1
        found: Tensor = self.backbone(shown.expand(-1, 3, -1, -1))
        return found


def imported(starter: Bundle, keys: tuple[str, ...], folder: Path) -> Bundle:
    """The backbone as a bundle with a vector for each of ``keys``, which include the root."""
    file = folder / "map.onnx"
    image = torch.zeros(1, 1, *starter.preprocessing.shape)
    torch.onnx.export(FeatureMap(starter).eval(), (image,), file, dynamo=False, opset_version=18)
    request = ImportRequest(
        name="lite0",
        kind=ImageKind.CXR,
        preprocessing=starter.preprocessing,
        regions=[anatomy.region(key) for key in keys],
        features=Features.MAP,
        training={"data": "ImageNet", "licence": "Apache-2.0"},
    )
    return import_model(file, request).save(folder / "bundle")


def as_served(starter: Bundle, images: Images) -> Vectors:
    """A zone that the bundle does not know is answered by the nearest region above it, the lung."""
    found = encoded(starter, images.by_side[SIDE])
    return lambda key: unit(found.of(key))


def judged(images: Images, collection: str, starter: Bundle, features: Bundle) -> dict[str, Any]:
    """NDCG@10 and the mean difference of the first three, with intervals over patients."""
    asked, grades = judging(images, collection)
    each = of_bundle(features, asked)
    ways: dict[str, Vectors | None] = {
        RANDOM: None,
        ZONE_PIXELS: of_pixels(asked.by_side[SIDE].images.astype(np.float32), zone=True),
        ONE: lambda key: each(ROOT),
        EACH: each,
        STANDARDISED: lambda key: unit((each(key) - each(key).mean(0)) / (each(key).std(0) + 1e-6)),
        OWN: of_bundle(starter, asked, own=True),
        OWN_LOBE: of_bundle(starter, asked, own=True, by_lobe=True),
        SERVED: as_served(starter, asked),
        STARTER: of_bundle(starter, asked),
        LOBE: of_bundle(starter, asked, by_lobe=True),
    }
    patients = asked.patients
    apart = patients[:, None] != patients[None]
    bootstrap = Bootstrap(patients, 0)
    found: dict[str, Resampled] = {}
    for name, vectors in ways.items():
        ranking = None if vectors is None else cosines(vectors)
        found[name] = bootstrap.resampled(by_grade(apart, grades, grades, ranking), np.arange(len(patients)))
    return {
        "images": len(asked),
        "patients": len(np.unique(patients)),
        "zones": list(grades),
        "ways": {name: _figures(one, found) for name, one in found.items()},
    }


def _figures(found: Resampled, ways: Mapping[str, Resampled]) -> dict[str, Any]:
    """``less``: the paired interval of the difference in NDCG@10 from each other way."""
    low, high = found.interval()
    return {
        "ndcg": round(float(found.mean[0]), 4),
        "interval_95": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "difference": round(float(found.mean[1]), 4),
        "less": {
            name: [round(float(e), 4) for e in np.percentile(found.draws[:, 0] - its.draws[:, 0], [2.5, 97.5])]
            for name, its in ways.items()
            if its is not found
        },
    }


def paired(edges: Sequence[float] | None) -> str:
    return "" if edges is None else f"{edges[0]:+.4f} to {edges[1]:+.4f}"


def written(found: Mapping[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# An encoder from elsewhere, region by region",
        "",
        "The starter's EfficientNet-lite0, which saw photographs only, exported to its feature map of stride 16 and "
        "imported by `radir models import --features map`, as a hospital would import an encoder of its own. Judged on "
        "frontal X-rays whose six lung zones are graded 0 to 3 (once, by a general vision-language model), other "
        "patients only: NDCG@10 with intervals of 95 % over patients, and the mean difference of the first three. The "
        "last column is the paired interval of the difference in NDCG@10 from the row that is standardised. Nothing is "
        "trained.",
    ]
    for collection, one in found["collections"].items():
        lines += ["", *_table(collection, one)]
    lines += [
        "",
        f"What is served is the row “{EACH}”: the import sees no images, so it cannot standardise. “{ONE}” is the same "
        "features over the outline of the whole chest, about what a model gives that answers one vector. The starter "
        "knows the two lower zones by name; in the others the row “the starter” asks it for the lobe, and the product "
        "answers by the lung, their parent, and says so.",
        "",
        "To ask for lobes was chosen after the images of cxr_cohen had been looked at; those of cxr_nih_more are of "
        "patients by whom the backbone was not measured, and were not looked at for it.",
    ]
    return "\n".join(lines)


def _table(collection: str, found: Mapping[str, Any]) -> list[str]:
    ways = found["ways"]
    lines = [
        f"## {collection}: {found['images']} images of {found['patients']} patients",
        "",
        "| ranking by | NDCG@10 | difference | less the standardised |",
        "|---|---|---|---|",
    ]
    for name, one in ways.items():
        edges = one["interval_95"]
        value = f"{one['ndcg']:.3f} [{edges[0]:.3f}, {edges[1]:.3f}]"
        lines.append(f"| {name} | {value} | {one['difference']:.2f} | {paired(one['less'].get(STANDARDISED))} |")
    return [
        *lines,
        "",
        f"A vector for each region less one for all: {paired(ways[EACH]['less'][ONE])} (95 %, paired). The lobe in the "
        f"zones that the starter does not know, less the lung: {paired(ways[STARTER]['less'][SERVED])}. The lobe in "
        f"every zone, less that: {paired(ways[LOBE]['less'][STARTER])}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    starter = Bundle.load(default_bundles()[ImageKind.CXR])
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        features = imported(starter, (ROOT, *LOBES), Path(folder))
        judgements = {}
        for collection in (COHEN, NIH):
            images = Images.read(args.data / collection, [SIDE], args.cache.expanduser(), console)
            judgements[collection] = judged(images, collection, starter, features)
    found = {"collections": judgements}
    print(f"{results.write(args.out, 'pooled-features', found, written(found))} written")


if __name__ == "__main__":
    main()
