"""How well a network retrieves among patients it was not trained on; these figures go into the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from radir_pacs import anatomy
from radir_pacs.encode import Bundle

from ..data.statements import Relevance, Said
from ..data.studies import StudySet
from ..evaluation.baselines import pixels
from ..evaluation.embeddings import Embeddings, encoded
from ..evaluation.quick import abnormal_recall

SHARE = 0.2  # of the patients, but at most MOST
MOST = 800  # patients: more are worth more in training, since an interval narrows only with the square root


class HeldOut:
    """``conditional``: False uses one vector per image, whichever region is queried. ``pictures``: the images of
    ``data`` for the pixel baseline, where that holds features of them."""

    def __init__(self, data: StudySet, *, conditional: bool, seed: int, pictures: StudySet | None = None) -> None:
        self.pictures = pictures or data
        self.data, self.conditional, self.seed = data, conditional, seed
        self._relevance: dict[str, Relevance] = {}

    def recall(self, bundle: Bundle) -> dict[str, Any]:
        """By relevance mined from the reports; see ``abnormal_recall``."""
        return self._judged(self._encoded(bundle), _keys(bundle), "mined", self.data.said)

    def metrics(self, bundle: Bundle) -> dict[str, Any]:
        """For the manifest: the network beside the pixel baseline, judged by the reports and, where known, by the
        truth."""
        keys, found, plain = _keys(bundle), self._encoded(bundle), pixels(self.pictures)
        mined = self._judged(found, keys, "mined", self.data.said)
        metrics = {
            "measured_on": {"patients": len(np.unique(self.data.patients)), "images": len(self.data)},
            "mean_cosine_within_region": mined["mean_cosine_within_region"],
            "recall_at_5_abnormal": mined,
            "recall_at_5_abnormal_pixels": _short(self._judged(plain, keys, "mined", self.data.said)),
        }
        if self.data.true is not None:
            metrics["recall_at_5_abnormal_true"] = self._judged(found, keys, "true", self.data.true)
            metrics["recall_at_5_abnormal_true_pixels"] = _short(self._judged(plain, keys, "true", self.data.true))
        return metrics

    def _encoded(self, bundle: Bundle) -> Embeddings:
        found = encoded(bundle, self.data)
        return found if self.conditional else found.unconditional()

    def _judged(self, found: Embeddings, keys: Sequence[str], by: str, said: Sequence[Said]) -> dict[str, Any]:
        if by not in self._relevance:
            self._relevance[by] = Relevance.of(said, keys)
        vectors = np.stack([found.of(key) for key in keys], axis=1)
        regions = [anatomy.region(key) for key in keys]
        return abnormal_recall(vectors, self.data, self._relevance[by], regions, seed=self.seed)


def split(data: StudySet, seed: int) -> tuple[StudySet, StudySet]:
    """(training, held-out): a random fifth of the patients, at most MOST, is held out."""
    people = np.unique(data.patients)
    drawn = np.random.default_rng(seed).permutation(people)[: min(MOST, max(1, round(SHARE * len(people))))]
    apart = np.isin(data.patients, drawn)
    return data.subset(~apart), data.subset(apart)


def _keys(bundle: Bundle) -> list[str]:
    return [region.key for region in bundle.regions]


def _short(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: summary[name] for name in ("recall", "interval_95", "random", "k")}
