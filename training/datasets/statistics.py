"""What is in a data set, as numbers and as a page with plots: sizes, base rates, the distribution of relevance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radir_pacs import anatomy

from ..pages import rendered

RELEVANT = 90  # hundredths; S > 0.9 is what Recall@k counts as a hit
_SAMPLE = 2_000  # rows sampled from a large matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionStatistics:
    """``relevant``: share of pairs with S > 0.9, the chance of a random hit. ``histogram``: the share of pairs per
    tenth of S."""

    images: int
    distinct: int
    relevant: float
    mean: float
    histogram: tuple[float, ...]

    def random_recall(self, k: int) -> float:
        """What Recall@k is by chance: 1 - (1 - p)^k."""
        return 1 - (1 - self.relevant) ** k


def table_statistics(table: npt.NDArray[np.uint8], distinct: int) -> RegionStatistics:
    """Statistics of a matrix (without its diagonal) or of top lists; large ones by evenly spaced rows."""
    step = max(1, len(table) // _SAMPLE)
    rows = np.asarray(table[::step])
    keep = np.ones(rows.shape, bool)
    if table.shape[0] == table.shape[1]:
        keep[np.arange(len(rows)), np.arange(0, len(table), step)] = False
    values = rows[keep]
    if not len(values):
        return RegionStatistics(images=len(table), distinct=distinct, relevant=0.0, mean=0.0, histogram=(0.0,) * 10)
    counts = np.bincount(np.minimum(values // 10, 9), minlength=10) / len(values)
    return RegionStatistics(
        images=len(table),
        distinct=distinct,
        relevant=float((values > RELEVANT).mean()),
        mean=float(values.mean()) / 100,
        histogram=tuple(float(count) for count in counts),
    )


def page(
    source: str,
    images: Mapping[str, int],
    regions: Mapping[str, Mapping[str, RegionStatistics]],
    concepts: Counter[str],
    silent: int,
) -> str:
    """A self-contained page: no script, nothing external, no report text."""
    splits = []
    for split, by_region in regions.items():
        ranked = sorted(by_region.items(), key=lambda pair: -pair[1].images)
        named = [(anatomy.region(key).name, found) for key, found in ranked]
        rows = [{"name": name, "found": found, "bar": (name, found.images)} for name, found in named]
        splits.append((split, rows))
    return rendered(
        "statistics.html",
        title=f"Data set from {source}",
        images=images,
        silent=silent,
        concepts=[(name.replace("_", " "), count) for name, count in concepts.most_common(30)],
        splits=splits,
    )
