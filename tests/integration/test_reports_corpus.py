"""Mining's figures on the halves of Open-i and CT-RATE that nothing was tuned on (benchmarks/experiments/mining.py)."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.experiments.corpora import Half, LabelledReport, read_ct_rate_sample, read_open_i
from benchmarks.experiments.label_measures import LabelScore, PlaceScore, label_score, score_places
from benchmarks.experiments.mesh import read_code
from radir_pacs.reports import Finding, Miner
from radir_pacs.reports.labels import label_set
from radir_pacs.reports.lexicon import load
from tests.services import data_dir

Mined = tuple[tuple[LabelledReport, tuple[Finding, ...]], ...]


@cache
def mined(collection: str) -> Mined:
    folder = data_dir(collection)
    reports = read_open_i(folder) if collection == "reports_iu" else read_ct_rate_sample(folder)
    miner = Miner()
    return tuple((r, miner.mine(r.text, r.kind).findings) for r in reports if r.half is Half.REPORTING)


def score(collection: str, labels: str) -> LabelScore:
    pairs = ((findings, report.labels[labels]) for report, findings in mined(collection) if labels in report.labels)
    return label_score(pairs, label_set(labels))


def common(labels: str) -> set[str]:
    """Labels with at least ten positives in the whole collection."""
    totals: dict[str, int] = {}
    for report in read_open_i(data_dir("reports_iu")):
        for label, value in report.labels.get(labels, {}).items():
            totals[label] = totals.get(label, 0) + value
    return {label for label, total in totals.items() if total >= 10}


def test_95_labels_of_open_i() -> None:
    found = score("reports_iu", "findings95")
    assert found.micro.f1 >= 0.91  # SARLE's rules: 0.796
    assert found.macro_f1(common("findings95")) >= 0.89  # SARLE: 0.778


def test_14_labels_of_open_i() -> None:
    found = score("reports_iu", "gold14")
    assert found.micro.f1 >= 0.90
    assert found.macro_f1() >= 0.88


def test_18_labels_of_ct_rate() -> None:
    assert score("reports_ct", "ct18").macro_f1() >= 0.91


def test_regions_and_sides_against_human_codes() -> None:
    lexicon, places = load(), PlaceScore()
    for report, findings in mined("reports_iu"):
        codes = [code for code in (read_code(path, lexicon) for path in report.codes) if code is not None]
        score_places(findings, codes, lexicon, places)
    assert places.regions.tp > 1000
    assert places.regions.f1 >= 0.88
    assert places.side_accuracy >= 0.965


@pytest.mark.parametrize("collection", ["reports_iu", "reports_ct"])
def test_every_span_lies_in_its_sentence(collection: str) -> None:
    for report, findings in mined(collection):
        for finding in findings:
            assert finding.sentence[0] <= finding.span[0] < finding.span[1] <= finding.sentence[1] <= len(report.text)
