"""The pages of foreign features say what their figures say, also what the starter does not beat."""

from __future__ import annotations

import copy
import json

import pytest

from benchmarks import performance, results
from benchmarks.experiments.dense_features import above, written
from benchmarks.experiments.pooled_features import STANDARDISED, STARTER
from benchmarks.experiments.pooled_features import written as pooled_page

RESULTS = performance.DOCS / "results"


@pytest.mark.parametrize("name", ["dense-features", "dense-features-both"])
def test_the_page_is_made_of_its_figures(name: str) -> None:
    told = json.loads((RESULTS / f"{name}.json").read_text())
    page = results.headed(written(told), results.origin(told["made"], name))
    assert (RESULTS / f"{name}.md").read_text() == page


def test_the_page_of_pooled_features_is_made_of_its_figures() -> None:
    told = json.loads((RESULTS / "pooled-features.json").read_text())
    page = results.headed(pooled_page(told), results.origin(told["made"], "pooled-features"))
    assert (RESULTS / "pooled-features.md").read_text() == page


def test_what_the_starter_is_not_above_is_named_with_its_interval() -> None:
    zones = json.loads((RESULTS / "dense-features.json").read_text())["zones"]
    assert f"Not above: “{STANDARDISED}” (-0.0005 to +0.0130)." in above(zones)
    better = copy.deepcopy(zones)
    better[STARTER]["less"][STANDARDISED] = [0.001, 0.02]
    assert above(better).endswith("Not above: none.")
