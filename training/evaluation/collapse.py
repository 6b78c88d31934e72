"""Whether a model still tells studies apart at all.

The mean cosine of two different studies within a region says it. Unit vectors that fill their space have one near 0;
a region-centred head with its constant one about .5. A collapsed run of the prototype had .999 and retrieved at chance
(docs: ``method.md``'s graded contrast alone), its healthy siblings stayed far below. COLLAPSED lies between: at .98
two studies stand on average 11 degrees apart, and what differs between patients is a fiftieth of what they share.
A model is called collapsed when the mean over its regions says so; a single region may be, too.
"""

from __future__ import annotations

import numpy as np

from .measures import F32, F64

COLLAPSED = 0.98


def mean_cosine(vectors: F32) -> float:
    """Of two different rows of unit vectors [n, dim]; NaN of fewer than two."""
    n = len(vectors)
    if n < 2:
        return float("nan")
    return float((np.square(vectors.sum(axis=0, dtype=np.float64)).sum() - n) / (n * (n - 1)))


def within_region_cosine(vectors: F32) -> F64:
    """Of vectors [studies, regions, dim]: [regions]."""
    return np.array([mean_cosine(vectors[:, region]) for region in range(vectors.shape[1])])
