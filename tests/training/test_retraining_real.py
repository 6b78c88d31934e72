"""The page of retraining on real X-rays begins with what its figures cannot show."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.experiments.retraining_real import page

DOCS = Path(__file__).parents[2] / "docs/results"


def test_the_page_says_first_how_little_it_can_show() -> None:
    written = (DOCS / "retraining-real.md").read_text()
    told = json.loads((DOCS / "retraining-real.json").read_text())
    del told["made"]
    title, first, rest = page(told).strip().split("\n\n", 2)
    assert first.startswith("**This page says little.** The starter is near random on these collections")
    assert "0.179 where chance finds 0.195 on cxr_cohen (3 regions judged)" in first
    assert "0.741 where chance finds 0.728 on cxr_nih_more (2 regions judged)" in first
    assert written.startswith(f"{title}\n\n") and written.endswith(f"\n\n{first}\n\n{rest}\n"), "write the page again"


def test_a_starter_that_is_no_guess_is_told_without_it() -> None:
    overall = {"queries": 90, "champion": 0.5, "challenger": 0.5, "random": 0.2, "difference": 0.0}
    run = {"seed": 0, "reports": 0, "shuffled": False, "overall": overall | {"interval_95": [-0.1, 0.1]}, "regions": {}}
    found = {"images": 10, "patients": 5, "regions": 4, "runs": [run]}
    first = page({"cxr_cohen": found}).split("\n\n")[1]
    assert first == "The starter's Recall@5: 0.500 where chance finds 0.200 on cxr_cohen (4 regions judged)."
