"""Whether a model distinguishes studies at all.

The measure is the mean cosine of two different studies within a region. It is near 0 for unit vectors that fill their
space, and about .5 for a region-centred head with its constant. A collapsed training of the prototype, with the graded
contrast alone, had .999 and retrieved at chance; healthy ones stayed far below. COLLAPSED lies between: at .98, two
studies are on average 11 degrees apart, and what differs between patients is a fiftieth of what they share. A model is
called collapsed by the mean over its regions; a single region can be collapsed, too.
"""

from __future__ import annotations

import numpy as np

from .measures import F32, F64

COLLAPSED = 0.98


def mean_cosine(vectors: F32) -> float:
    """The mean cosine of two different rows of unit vectors [n, dim]; NaN for fewer than two."""
    n = len(vectors)
    if n < 2:
        return float("nan")
    return float((np.square(vectors.sum(axis=0, dtype=np.float64)).sum() - n) / (n * (n - 1)))


def within_region_cosine(vectors: F32) -> F64:
    """The mean cosine per region, [regions], of vectors [studies, regions, dim]."""
    return np.array([mean_cosine(vectors[:, region]) for region in range(vectors.shape[1])])
