"""Which studies make up each step: each of them once per epoch, in an order that depends only on seed and epoch.

With hard negatives, a share of each batch is taken from the top lists of the other studies in it: for a study and one
of its abnormal regions, one of the studies that the network last ranked as most similar there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .training_set import Batch, TrainingSet


class BatchSampler:
    """Rows of step ``step``; the same for the same seed, whatever ran before."""

    def __init__(self, studies: int, batch: int, seed: int) -> None:
        self.studies, self.batch, self.seed = studies, batch, seed
        self.steps_an_epoch = max(1, studies // batch)
        self._epoch, self._rows = -1, torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        epoch, within = divmod(step, self.steps_an_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._rows = epoch, torch.randperm(self.studies, generator=generator)
        return self._rows[within * self.batch : (within + 1) * self.batch]


class TopLists:
    """The latest vectors of every study, and draws from their nearest neighbours."""

    def __init__(self, training_set: TrainingSet, dim: int) -> None:
        self.vectors = torch.zeros(len(training_set), len(training_set.regions), dim, dtype=torch.float16)
        self.known = torch.zeros(len(training_set), dtype=torch.bool)
        self.abnormal = torch.from_numpy(training_set.relevance.abnormal & training_set.seen)

    def keep(self, batch: Batch, vectors: Tensor) -> None:
        self.vectors[batch.rows] = vectors.detach().to(torch.float16)
        self.known[batch.rows] = True

    def harder(self, rows: Tensor, share: float, top: int, generator: torch.Generator) -> Tensor:
        """``rows``, the last ``share`` of them replaced by neighbours of the first; unchanged while too few vectors are
        known."""
        wanted = int(len(rows) * share)
        if not wanted or int(self.known.sum()) < 2 * len(self.known) // 3:
            return rows
        chosen = rows.clone()
        for place in range(wanted):
            anchor = rows[place % (len(rows) - wanted)]
            regions = self.abnormal[anchor].nonzero().flatten()
            if not len(regions):
                continue
            region = regions[torch.randint(len(regions), (1,), generator=generator)]
            near = self.vectors[:, region[0]].float() @ self.vectors[anchor, region[0]].float()
            near[~self.known] = -2
            near[chosen] = -2
            best = near.topk(min(top, len(near))).indices
            chosen[len(rows) - wanted + place] = best[torch.randint(len(best), (1,), generator=generator)]
        return chosen
