"""How well scores separate what is present from what is absent."""

from __future__ import annotations

import numpy as np

from radir_training.data.statements import Mask
from radir_training.evaluation.measures import F32, I64
from radir_training.evaluation.resample import Bootstrap, Resampled


def auc(scores: F32, there: Mask, bootstrap: Bootstrap, rows: I64) -> Resampled:
    """The area under the ROC curve of ``scores`` [n] for ``there`` [n], ties counting half; NaN where all or none are.

    ``rows`` [n]: rows of the bootstrap's patients.
    """
    ahead = np.sign(scores[there][:, None] - scores[~there][None]).astype(np.float32) / 2 + 0.5
    weights = bootstrap.weights(rows)
    with_it, without = weights[:, there], weights[:, ~there]
    won = ((with_it @ ahead) * without).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = won / (with_it.sum(axis=1) * without.sum(axis=1))
        mean = np.asarray(ahead.sum(dtype=np.float64) / ahead.size if ahead.size else np.nan, np.float64)
    return Resampled(mean, draws.astype(np.float32), np.asarray(len(there), np.int64))
