"""What a radiograph network is judged by that was trained on for an experiment: real lung zones, synthetic patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.experiments.real_rankings import CXR, SIDE, Images, cosines, joined, judging, measured_by, of_bundle
from benchmarks.experiments.real_zones import COHEN, NIH, by_grade
from radir_pacs.encode import CONFIGS, Bundle
from radir_pacs.encode.appearance import reduced
from radir_pacs.encode.network import RadirNetwork, view_index
from radir_pacs.types import View
from radir_training.data.folder_set import folder_set
from radir_training.data.phantom_set import phantom_set
from radir_training.data.studies import StudySet
from radir_training.evaluation.measures import I64
from radir_training.evaluation.resample import Bootstrap, Resampled
from radir_training.learning.backbone import with_own_weights
from radir_training.runs.held_out import HeldOut

TINY = CONFIGS["tiny"].only(CXR)
EXAM_PATIENTS, EXAM_SEED = 350, 2
OWN, SERVED = "the network alone", "with its backbone"


@dataclass(frozen=True)
class Judgement:
    """How much a network finds in real and in drawn patients, with what a paired comparison needs.

    zones: by ``OWN`` and ``SERVED``, then by collection: NDCG@10 and the mean difference of the first three, asked for
    the lobe. synthetic: Recall@5 of abnormal queries, judged by reports and by true findings.
    """

    zones: Mapping[str, Mapping[str, Resampled]]
    synthetic: Mapping[str, float]

    def as_json(self, before: Judgement | None = None) -> dict[str, Any]:
        """``before``: of the network that it is compared with, for paired intervals of the gain in NDCG@10."""
        zones = {
            part: {
                collection: _figures(one, None if before is None else before.zones[part][collection])
                for collection, one in found.items()
            }
            for part, found in self.zones.items()
        }
        return {"zones": zones, "synthetic": dict(self.synthetic)}


def _figures(found: Resampled, before: Resampled | None) -> dict[str, Any]:
    low, high = found.interval()
    figures: dict[str, Any] = {
        "ndcg": round(float(found.mean[0]), 4),
        "interval_95": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "difference": round(float(found.mean[1]), 4),
    }
    if before is not None:
        gain = np.percentile((found.draws - before.draws)[:, 0], [2.5, 97.5])
        figures["gain_95"] = [round(float(edge), 4) for edge in gain]
    return figures


def cells(one: Mapping[str, Any]) -> str:
    """Of a row of a table: for each collection NDCG@10 with its interval, and the interval of the gain, if any."""
    shown = []
    for collection in (COHEN, NIH):
        figures = one[collection]
        low, high = figures["interval_95"]
        shown.append(f"{figures['ndcg']:.3f} [{low:.3f}, {high:.3f}]")
        shown.append("{:+.4f} to {:+.4f}".format(*figures["gain_95"]) if "gain_95" in figures else "")
    return " | ".join(shown)


class Judges:
    """Graded zones of cxr_cohen and of the patients of cxr_nih_more by whom no backbone was measured, and synthetic
    patients (seed 2)."""

    def __init__(self, starter: Bundle, data: Path, cache: Path, console: Console) -> None:
        self._starter = starter
        self._zones: dict[str, tuple[Images, dict[str, I64]]] = {}
        for collection in (COHEN, NIH):
            self._zones[collection] = judging(Images.read(data / collection, [SIDE], cache, console), collection)
        assert isinstance(starter.network, RadirNetwork)
        drawn = phantom_set(starter.network.config, CXR, patients=EXAM_PATIENTS, seed=EXAM_SEED, cache=cache)
        self._held_out = HeldOut(drawn, conditional=True, seed=EXAM_SEED)

    def judgement(self, own: Bundle) -> Judgement:
        """Of a network without a backbone, alone and under that of the starter."""
        served = with_own_weights(self._starter, own)
        zones: dict[str, dict[str, Resampled]] = {OWN: {}, SERVED: {}}
        for collection, (images, grades) in self._zones.items():
            patients = images.patients
            apart = patients[:, None] != patients[None]
            bootstrap, everyone = Bootstrap(patients, 0), np.arange(len(images))
            for part, found in zones.items():
                ranking = cosines(of_bundle(served, images, own=part == OWN, by_lobe=True))
                found[collection] = bootstrap.resampled(by_grade(apart, grades, grades, ranking), everyone)
        metrics = self._held_out.metrics(served)
        names = {"reports": "recall_at_5_abnormal", "truth": "recall_at_5_abnormal_true"}
        return Judgement(zones, {name: metrics[key]["recall"] for name, key in names.items()})


def small(data: StudySet) -> StudySet:
    """The images as our own network is shown them."""
    images = reduced(torch.from_numpy(data.images.astype(np.float32)), TINY.stems[CXR].shape)
    return replace(data, images=images.numpy().astype(np.float16))


def frontal(data: StudySet) -> StudySet:
    return data.subset(data.views == view_index(CXR, View.FRONTAL))


def real_images(data: Path, cache: Path, console: Console) -> StudySet:
    """Frontal X-rays whose weights may ship, as our own network is shown them, of nobody by whom a network is judged
    here."""
    nih = Images.read(data / NIH, [SIDE], cache, console)
    judges = {row["patient_id"] for row in judging(nih, NIH)[0].rows}
    measured = small(nih.by_side[SIDE].subset(np.flatnonzero(measured_by(nih))))
    others = [
        folder_set(TINY, CXR, data / name, cache=cache, tell=console.print) for name in ("cxr_hannover", "cxr_nih")
    ]
    found = frontal(joined(measured, *others))
    assert found.names and not judges & set(found.names), "a patient who judges would be learned from"
    return found
