"""Report mining on the labelled collections: labels, regions, sides, speed, all-pairs tables, errors by cause.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments.mining [--data ../shared/data] [--errors] [--tables]

Tuned on one half of each collection, reported on the other (the half is the hash of the text). The tables
also give SARLE's published figures on the same Open-i labels. --errors lists label errors by cause; --tables times
all pairs of 10,000 reports over 30 regions, and top-100 lists at growing sizes.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.experiments.corpora import Half, LabelledReport, read_ct_rate_sample, read_open_i
from benchmarks.experiments.label_measures import LabelScore, PlaceScore, score_places
from benchmarks.experiments.mesh import read_code
from radir_pacs.reports import Finding, Item, ItemSimilarity, Miner, similarity_items
from radir_pacs.reports.labels import label_set
from radir_pacs.reports.lexicon import load
from radir_pacs.reports.pairs import region_items, top_lists, write_table

TARGETS = {
    ("findings95", "micro"): ("0.88", "SARLE 0.796"),
    ("findings95", "macro of labels with 10 positives"): ("0.85", "SARLE 0.778"),
    ("gold14", "macro"): ("0.92", ""),
    ("ct18", "macro"): ("0.88", ""),
}
SIZES = (2_500, 5_000, 10_000, 20_000)
Mined = list[tuple[LabelledReport, tuple[Finding, ...]]]
Items = Mapping[str, tuple[Item, ...]]


def labels(mined: Mined, console: Console) -> None:
    totals: Counter[tuple[str, str]] = Counter()
    for report, _ in mined:
        for name, gold in report.labels.items():
            totals.update((name, label) for label, value in gold.items() if value)
    table = _table("labels, F1", "labels", "average", "tuning half", "reporting half", "target", "published")
    for name in ("findings95", "gold14", "ct18"):
        scores = {half: LabelScore() for half in Half}
        indexed = {half: LabelScore() for half in Half}
        for report, findings in mined:
            if name in report.labels:
                predicted = label_set(name).of(findings)
                scores[report.half].add(predicted, report.labels[name])
                if report.codes != ("No Indexing",):
                    indexed[report.half].add(predicted, report.labels[name])
        often = {label for (of, label), count in totals.items() if of == name and count >= 10}
        rows = {
            "micro": [scores[half].micro.f1 for half in Half],
            "macro": [scores[half].macro_f1() for half in Half],
            "macro of labels with 10 positives": [scores[half].macro_f1(often) for half in Half],
        }
        # its coders left some reports unindexed, which its table counts as abnormal without a finding
        if name == "gold14":
            rows["macro without reports nobody indexed"] = [indexed[half].macro_f1() for half in Half]
        for average, values in rows.items():
            target, published = TARGETS.get((name, average), ("", ""))
            table.add_row(name, average, *(f"{value:.3f}" for value in values), target, published)
    console.print(table)


def places(mined: Mined, console: Console) -> None:
    lexicon = load()
    table = _table(
        "places against human MeSH codes", "half", "region F1", "precision", "recall", "places", "side", "sided"
    )
    for half in Half:
        score = PlaceScore()
        for report, findings in mined:
            if report.half is half and report.codes:
                codes = [code for code in (read_code(path, lexicon) for path in report.codes) if code is not None]
                score_places(findings, codes, lexicon, score)
        regions = score.regions
        table.add_row(
            half.name.lower(),
            f"{regions.f1:.3f}",
            f"{regions.precision:.3f}",
            f"{regions.recall:.3f}",
            str(regions.tp + regions.fn),
            f"{score.side_accuracy:.3f}",
            str(score.sides),
        )
    table.add_row("target", "0.85", "", "", "", "0.97", "")
    console.print(table)


def errors(mined: Mined, console: Console) -> None:
    """Label errors of the reporting half by causes that can be told without reading, errors of the gold standard
    first."""
    for name in ("gold14", "findings95", "ct18"):
        rules = label_set(name).rules
        causes: Counter[str] = Counter()
        for report, findings in mined:
            if report.half is not Half.REPORTING or name not in report.labels:
                continue
            predicted = label_set(name).of(findings)
            for label, gold in report.labels[name].items():
                if predicted[label] == gold:
                    continue
                causes[_cause(report, findings, rules[label].concepts, gold, normal=rules[label].negated)] += 1
        table = _table(f"{name}: label errors of the reporting half", "cause", "errors")
        for cause, count in causes.most_common():
            table.add_row(cause, str(count))
        console.print(table)


def _cause(
    report: LabelledReport, findings: Sequence[Finding], concepts: frozenset[str], gold: int, *, normal: bool
) -> str:
    if report.codes == ("No Indexing",):
        return "gold: the report was never indexed"
    if normal:
        return "the label 'normal': one finding too many or too few" if gold else "the label 'normal': a finding missed"
    about = [finding for finding in findings if finding.concept in concepts]
    if gold:
        if not about:
            return "missed: no word of it was understood (or the text has none: blanks, or the coder saw the image)"
        if any(finding.asserted for finding in about):
            return "missed: uncertain in the text, coded as a finding"
        return "missed: read as denied, history or question"
    if any(finding.asserted and finding.certainty != "certain" for finding in about):
        return "extra: uncertain in the text, not coded"
    return "extra: affirmed in the text, not coded (our reading or the coder's)"


def speed(mined: Mined, console: Console) -> None:
    table = _table("speed on one core", "collection", "reports/s", "words/s", "reports/s, sentences remembered")
    for kind, name in (("CXR", "Open-i"), ("CT", "CT-RATE")):
        texts = [report.text for report, _ in mined if report.kind == kind]
        words = sum(len(text.split()) for text in texts)
        seconds = []
        for remember in (0, 50_000):
            miner = Miner(remember=remember)
            began = time.process_time()
            for text in texts:
                miner.mine(text)
            seconds.append(time.process_time() - began)
        rates = [len(texts) / second for second in seconds]
        table.add_row(name, f"{rates[0]:,.0f}", f"{words / seconds[0]:,.0f}", f"{rates[1]:,.0f}")
    console.print(table)


def tables(mined: Mined, console: Console) -> None:
    similarity = ItemSimilarity()
    real = [similarity_items(findings) for _, findings in mined]
    collection = _enlarged(real, max(SIZES))
    regions = [region for region, _ in Counter(r for items in collection[:10_000] for r in items).most_common(30)]
    began, began_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for region in regions:
            write_table(region_items(region, collection[:10_000]), similarity, Path(folder) / f"{region}.npy")
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    console.print("all pairs of 10,000 reports over 30 regions, one core (target 60 s on two, 2 GB):")
    console.print(f"{seconds:.1f} s, CPU {cpu:.1f} s, peak {memory:.2f} GB")
    columns = ("reports", "region", "distinct sets", "CPU s", "s per 10^9 pairs of sets", "200,000 distinct sets, h")
    table = _table("top-100 lists on one core", *columns)
    for region in ("chest", "lungs", "pleura"):
        for size in SIZES:
            group = region_items(region, collection[:size])
            began = time.process_time()
            for _ in top_lists(group, similarity, 100):
                pass
            seconds = time.process_time() - began
            slope = seconds / len(group.sets) ** 2
            planned = f"{slope * 200_000**2 / 3600:.1f}" if len(group.sets) > 5_000 else ""  # too few sets to measure
            table.add_row(f"{size:,}", region, f"{len(group.sets):,}", f"{seconds:.1f}", f"{slope * 1e9:.0f}", planned)
    console.print(table)


def _enlarged(real: Sequence[Items], size: int) -> list[Items]:
    """Real reports, then unions of two of them: more distinct item sets than any real collection of that size."""
    chance = random.Random(0)
    grown = list(real)
    while len(grown) < size:
        a, b = chance.choice(real), chance.choice(real)
        grown.append({key: tuple(sorted({*a.get(key, ()), *b.get(key, ())})) for key in a.keys() | b.keys()})
    return grown[:size]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--errors", action="store_true")
    arguments.add_argument("--tables", action="store_true")
    args = arguments.parse_args()
    console, miner = Console(), Miner()
    reports = chain(read_open_i(args.data / "reports_iu"), read_ct_rate_sample(args.data / "reports_ct"))
    mined = [(report, miner.mine(report.text, report.kind).findings) for report in reports]
    console.print(results.origin(results.made()), soft_wrap=True)
    labels(mined, console)
    places(mined, console)
    speed(mined, console)
    if args.errors:
        errors(mined, console)
    if args.tables:
        tables(mined, console)


if __name__ == "__main__":
    main()
