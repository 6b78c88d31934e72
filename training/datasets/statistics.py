"""What is in a data set, as numbers and as a page with plots: sizes, base rates, how relevance is spread."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radir_pacs import anatomy

RELEVANT = 90  # hundredths; S > 0.9 is what Recall@k counts as a hit
_SAMPLE = 2_000  # rows that a large matrix is judged by
_CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse}td,th{padding:.15rem .7rem .15rem 0;text-align:right}td:first-child{text-align:left}
svg text{font:11px system-ui,sans-serif;fill:#444}rect{fill:#3a6ea5}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionStatistics:
    """``relevant``: share of pairs with S > 0.9, the chance of a random hit. ``histogram``: pairs a tenth of S."""

    images: int
    distinct: int
    relevant: float
    mean: float
    histogram: tuple[float, ...]

    def random_recall(self, k: int) -> float:
        """What Recall@k is by chance: 1 - (1 - p)^k."""
        return 1 - (1 - self.relevant) ** k


def table_statistics(table: npt.NDArray[np.uint8], distinct: int) -> RegionStatistics:
    """Of a matrix (its diagonal left out) or of top lists; large ones by evenly spaced rows."""
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
    """A page of its own: no script, nothing from outside, no text of any report."""
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Data set</title><style>{_CSS}</style>',
        f"<h1>Data set from {html.escape(source)}</h1>",
        "<p>" + ", ".join(f"{split}: {count} images" for split, count in images.items()),
        f"; {silent} reports in which nothing was found.</p>",
        "<h2>Findings affirmed</h2>",
        _bars([(name.replace("_", " "), count) for name, count in concepts.most_common(30)]),
    ]
    for split, by_region in regions.items():
        ranked = sorted(by_region.items(), key=lambda pair: -pair[1].images)
        parts.append(f"<h2>{html.escape(split)}: images a region</h2>")
        parts.append(_bars([(anatomy.region(key).name, found.images) for key, found in ranked[:40]]))
        parts.append(
            f"<h2>{html.escape(split)}: relevance</h2><table><tr><th>region</th><th>images</th><th>distinct</th>"
        )
        parts.append("<th>mean S</th><th>S &gt; .9</th><th>random R@5</th><th>S from 0 to 1</th></tr>")
        for key, found in ranked:
            parts.append(
                f"<tr><td>{html.escape(anatomy.region(key).name)}</td><td>{found.images}</td><td>{found.distinct}</td>"
                f"<td>{found.mean:.2f}</td><td>{found.relevant:.3f}</td><td>{found.random_recall(5):.3f}</td>"
                f"<td>{_spread(found.histogram)}</td></tr>"
            )
        parts.append("</table>")
    return "".join(parts) + "</html>\n"


def _bars(rows: Sequence[tuple[str, int]]) -> str:
    if not rows:
        return "<p>none</p>"
    most = max(count for _, count in rows)
    lines = [
        f'<text x="0" y="{16 * i + 12}">{html.escape(name)}</text>'
        f'<rect x="210" y="{16 * i + 3}" width="{600 * count / most:.1f}" height="11"/>'
        f'<text x="{216 + 600 * count / most:.1f}" y="{16 * i + 12}">{count}</text>'
        for i, (name, count) in enumerate(rows)
    ]
    return f'<svg width="900" height="{16 * len(rows) + 4}" role="img">{"".join(lines)}</svg>'


def _spread(histogram: Sequence[float]) -> str:
    most = max(histogram) or 1.0
    bars = "".join(
        f'<rect x="{12 * i}" y="{24 - 22 * share / most:.1f}" width="10" height="{22 * share / most:.1f}"/>'
        for i, share in enumerate(histogram)
    )
    return f'<svg width="120" height="24" role="img">{bars}</svg>'
