"""Ranking of reports under a region: our relevance beside BM25, TF-IDF and RaTEScore's weights on the same items.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.relevance [--data ../shared/data] [--half reporting]

Judged by nDCG@10 against the overlap of human MeSH codes under the region, with every report of the half that has such
a code as a query and all the others as the gallery. A random order is the baseline.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import results
from radir_pacs.reports import ItemSimilarity, Miner, similarity_items
from radir_pacs.reports.lexicon import Lexicon, load

from . import relevance_ranking as ranking
from .corpora import Half, read_open_i

REGIONS = (
    "chest", "lungs", "right_lung", "left_lung", "left_lower_zone", "pleura", "heart", "mediastinum", "aorta", "bones",
    "spine", "ribs", "diaphragm",
)  # fmt: skip


class Exact(ItemSimilarity):
    """Two concepts are similar only if they are the same."""

    def concepts(self, a: str, b: str) -> float:
        return float(a == b)


class Lin(ItemSimilarity):
    """Lin's similarity over intrinsic information content (Seco 2004), the usual alternative."""

    def __init__(self, lexicon: Lexicon) -> None:
        super().__init__(lexicon)
        below = {key: sum(key in above for above in lexicon.ancestors.values()) for key in lexicon.concepts}
        self._content = {key: 1 - np.log(count) / np.log(len(below)) for key, count in below.items()}
        self._ancestors = lexicon.ancestors

    def concepts(self, a: str, b: str) -> float:
        if a == b:
            return 1.0
        common = max(self._content[above] for above in self._ancestors[a] & self._ancestors[b])
        both = self._content[a] + self._content[b]
        return float(2 * common / both) if both else 0.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--half", choices=[half.name.lower() for half in Half], default="reporting")
    args = arguments.parse_args()
    lexicon, miner = load(), Miner()
    half = Half[args.half.upper()]
    reports = [report for report in read_open_i(args.data / "reports_iu") if report.half is half]
    items = [similarity_items(miner.mine(report.text, report.kind)) for report in reports]
    gains = {region: ranking.code_overlap([r.codes for r in reports], region, lexicon) for region in REGIONS}
    texts = [report.text for report in reports]
    tfidf, bm25 = ranking.tfidf_scores(texts), ranking.bm25_scores(texts)
    chance = np.random.default_rng(1).random(tfidf.shape, np.float32)
    weights = args.data / "vocab" / "ratescore" / "affinity_matrix"
    ours = ItemSimilarity(lexicon)

    def by(similarity: ItemSimilarity) -> Callable[[str], ranking.F32]:
        return lambda region: ranking.our_scores(items, region, similarity)

    def rate(name: str) -> Callable[[str], ranking.F32]:
        return lambda region: ranking.ratescore_scores(items, region, ours, weights / f"{name}_weight.json", lexicon)

    methods: dict[str, Callable[[str], ranking.F32]] = {
        "ours (Tversky)": by(ours),
        "ours, Lin": by(Lin(lexicon)),
        "ours, exact concepts": by(Exact(lexicon)),
        "RaTEScore weights, long": rate("long"),
        "RaTEScore weights, short": rate("short"),
        "BM25": lambda region: bm25,
        "TF-IDF cosine": lambda region: tfidf,
        "random": lambda region: chance,
    }
    table = Table(title=f"nDCG@10 against MeSH overlap, {args.half} half, {len(reports)} reports")
    for column in ("region", "queries", *methods):
        table.add_column(column, justify="left" if column == "region" else "right")
    means: dict[str, list[float]] = {name: [] for name in methods}
    for region in REGIONS:
        row = []
        for name, scores in methods.items():
            value, queries = ranking.ndcg(scores(region), gains[region])
            means[name].append(value)
            row.append(f"{value:.3f}")
        table.add_row(region, str(queries), *row)
    table.add_row("mean", "", *(f"{np.mean(values):.3f}" for values in means.values()))
    console = Console(width=160)
    console.print(results.origin(results.made()), soft_wrap=True)
    console.print(table)


if __name__ == "__main__":
    main()
