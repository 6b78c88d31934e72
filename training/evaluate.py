"""Retrieval within regions on held-out patients, beside the line a random order would draw.

Recall@k (as defined by arXiv 2503.04653): whether any of the k most similar studies of other
patients agrees with the query in that region (similarity above 0.9), over queries for which such a study exists.
Most regions are normal and normal ones agree by themselves, so the figure that counts is over *abnormal* queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from radir_pacs.encode.network import RadirNetwork
from radir_pacs.types import F32, Region

from .data import TrainingSet
from .truth import graded, similarity

SAME = 0.9
BOOTSTRAPS = 1000
LEAST_QUERIES = 10  # a region with fewer abnormal queries is not averaged
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Hits:
    """Per query and region, NaN where it is no query: hit (0 or 1) and the chance of a hit in random order."""

    hit: F64
    chance: F64


@torch.no_grad()
def region_vectors(network: RadirNetwork, queries: torch.Tensor, data: TrainingSet, batch: int = 64) -> F32:
    """Unit vectors float32 [studies, regions, dim] of a whole set."""
    network.eval()
    rows = torch.arange(len(data.regions))
    parts = []
    for start in range(0, len(data), batch):
        images = torch.from_numpy(data.images[start : start + batch].astype(np.float32))
        views = torch.from_numpy(data.views[start : start + batch])
        parts.append(network(images, views, data.kind, queries, rows).vectors.numpy())
    return np.concatenate(parts)


def pixel_vectors(data: TrainingSet) -> F32:
    """The plainest rival: each picture's own standardised pixels, one vector for all regions [studies, 1, pixels]."""
    flat = data.images.reshape(len(data), 1, -1).astype(np.float32)
    flat -= flat.mean(axis=2, keepdims=True)
    unit: F32 = flat / np.maximum(np.linalg.norm(flat, axis=2, keepdims=True), 1e-6)
    return unit


def hits_at(vectors: F32, data: TrainingSet, k: int, *, abnormal_only: bool) -> Hits:
    """Whether each study's k nearest in each region hold one that agrees."""
    shape = len(data), len(data.regions)
    hit, chance = np.full(shape, np.nan), np.full(shape, np.nan)
    features = graded(torch.from_numpy(data.truth.severity), torch.from_numpy(data.truth.sided))
    other = data.patients[:, None] != data.patients[None]
    asked = data.seen & data.truth.abnormal if abnormal_only else data.seen
    for region in np.flatnonzero(data.truth.described):
        found = vectors[:, min(region, vectors.shape[1] - 1)]
        allowed = other & data.seen[None, :, region]
        same = allowed & (similarity(features[:, region], features[:, region]).numpy() > SAME)
        scores = np.where(allowed, found @ found.T, -np.inf)
        queries = np.flatnonzero(asked[:, region] & same.any(axis=1))
        if not len(queries):
            continue
        nearest = np.argsort(-scores[queries], axis=1, kind="stable")[:, :k]
        hit[queries, region] = np.take_along_axis(same[queries], nearest, axis=1).any(axis=1)
        share = same[queries].sum(axis=1) / allowed[queries].sum(axis=1)
        chance[queries, region] = 1 - (1 - share) ** k
    return Hits(hit, chance)


def summary(hits: Hits, regions: tuple[Region, ...], seed: int) -> dict[str, Any]:
    """Mean over regions with a 95 % interval (bootstrap over studies), the random line, and each region's figures."""
    enough = np.flatnonzero((~np.isnan(hits.hit)).sum(axis=0) >= LEAST_QUERIES)
    if not len(enough):
        return {"recall": None, "regions": {}}
    hit, asked = np.nan_to_num(hits.hit[:, enough]), ~np.isnan(hits.hit[:, enough])
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(hit), np.full(len(hit), 1 / len(hit)), size=BOOTSTRAPS)
    means = ((weights @ hit) / np.maximum(weights @ asked, 1)).mean(axis=1)
    per_region = {
        regions[region].key: {
            "recall": _rounded(np.nanmean(hits.hit[:, region])),
            "random": _rounded(np.nanmean(hits.chance[:, region])),
            "queries": int((~np.isnan(hits.hit[:, region])).sum()),
        }
        for region in enough
    }
    return {
        "recall": _rounded(np.mean([entry["recall"] for entry in per_region.values()])),
        "interval_95": [_rounded(value) for value in np.percentile(means, [2.5, 97.5])],
        "random": _rounded(np.mean([entry["random"] for entry in per_region.values()])),
        "regions": per_region,
    }


def within_region_cosine(vectors: F32) -> float:
    """Mean cosine of two studies in one region; near 1 the model has collapsed."""
    n = len(vectors)
    sums = vectors.sum(axis=0, dtype=np.float64)
    return float((((sums**2).sum(axis=1) - n) / (n * (n - 1))).mean())


def evaluated(vectors: F32, data: TrainingSet, seed: int, k: int = 5) -> dict[str, Any]:
    """The metrics of a manifest, measured on ``data``."""
    abnormal = summary(hits_at(vectors, data, k, abnormal_only=True), data.regions, seed)
    everything = summary(hits_at(vectors, data, k, abnormal_only=False), data.regions, seed)
    pixels = summary(hits_at(pixel_vectors(data), data, k, abnormal_only=True), data.regions, seed)
    return {
        "measured_on": {"patients": len(np.unique(data.patients)), "images": len(data)},
        f"recall_at_{k}_abnormal": abnormal,
        f"recall_at_{k}_all": {name: value for name, value in everything.items() if name != "regions"},
        f"recall_at_{k}_abnormal_pixels": {name: value for name, value in pixels.items() if name != "regions"},
        "mean_cosine_within_region": _rounded(within_region_cosine(vectors)),
    }


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
