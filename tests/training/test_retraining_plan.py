"""The plan of a retraining, and the hours in which one may begin."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, SettingError
from radir_pacs.models.errands import is_within
from radir_training.retraining.plan import Plan


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"recipe": {"epoch": 3}}, "there is no recipe.epoch; there are epochs"),
        ({"recipe": {"epochs": 0}}, "recipe.epochs is between"),
        ({"recipe": {"epochs": 2.5}}, "whole number"),
        ({"gates": {"least_gain": float("nan")}}, "is a number"),
        ({"gates": {"overall": "fine"}}, "'better' or 'no worse'"),
        ({"gates": {"mean_over": "patients"}}, "'queries' or 'regions'"),
        ({"gates": {"false_refusal": None}}, "is a number"),
        ({"gates": {"false_refusal": 1.0}}, "gates.false_refusal is between"),
        ({"data": {"since": "spring"}}, "is a date"),
        ({"data": {"since": "2026-02-01", "until": "2026-01-01"}}, "before"),
        ({"data": 3}, "is a table"),
        ({"depth": "deep"}, "depth is one of"),
        ({"held_out": 0.1}, "there is no held_out"),
    ],
)
def test_a_plan_that_is_wrong_is_refused_and_names_the_entry(told: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        Plan.from_json(told)


def test_a_plan_has_one_hash_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('depth = "head"\n[recipe]\nepochs = 20\n[data]\nsince = 2025-01-01\n')
    read = Plan.read(path)
    assert read.sha256 == Plan.from_json(read.as_json()).sha256 != Plan().sha256
    assert Plan.read(None).sha256 == Plan().sha256 and Plan.read(path, "full").depth == "full"


def test_a_plan_stored_before_there_were_chances_has_none() -> None:
    stored = Plan().as_json()
    assert Plan.stored(stored) == Plan()
    del stored["gates"]["false_refusal"]
    assert Plan.stored(stored).gates.false_refusal is None


def test_a_plan_stored_before_queries_counted_once_each_counts_regions() -> None:
    stored = Plan().as_json()
    assert stored["gates"]["mean_over"] == "queries"
    del stored["gates"]["mean_over"]
    assert Plan.stored(stored).gates.mean_over == "regions"


def test_hours_go_past_midnight() -> None:
    def within(hour: int, hours: str) -> bool:
        return is_within(datetime(2026, 1, 1, hour), hours)

    assert [hour for hour in range(24) if within(hour, "22-5")] == [0, 1, 2, 3, 4, 22, 23]
    assert [hour for hour in range(24) if within(hour, "1-3")] == [1, 2]
    with pytest.raises(SettingError, match="off_peak_hours"):
        Settings(home=Path("/tmp"), off_peak_hours="night")
