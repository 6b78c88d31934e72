"""Which model answered when, and what questions asked unseen tell, from rows of the catalogue."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from radir_pacs.catalogue import ModelEvent, ShadowAnswer
from radir_pacs.cli.model_life import _times
from radir_pacs.errors import BadInput
from radir_pacs.models.answered import answered
from radir_pacs.models.comparison import Mean, compared
from radir_pacs.query.shadow import agreement
from radir_pacs.reports import mine
from radir_pacs.types import ImageKind, ModelChange

DAY = timedelta(days=1)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def event(number: int, model_id: str, change: ModelChange, at: datetime) -> ModelEvent:
    return ModelEvent(
        id=number,
        at=at,
        model_id=model_id,
        kind=ImageKind.CXR,
        change=change,
        replaces=None,
        who=f"person {number}",
        reason="",
        evidence="",
        coverage=None,
    )


HISTORY = [
    event(1, "a", ModelChange.REGISTERED, NOON - 9 * DAY),
    event(2, "a", ModelChange.PROMOTED, NOON - 9 * DAY),
    event(3, "b", ModelChange.PROMOTED, NOON),
    event(4, "a", ModelChange.ROLLED_BACK, NOON + timedelta(hours=1)),
    event(5, "b", ModelChange.RETIRED, NOON + DAY),
]


@pytest.mark.parametrize(
    ("at", "models"),
    [
        ("2026-11-01", ["a", "b", "a"]),
        ("2026-11-01T12:30", ["b"]),
        ("2026-11-01T13:30+01:00", ["b"]),
        ("2026-11-02", ["a"]),
        ("2026-10-01", []),
    ],
)
def test_the_models_that_answered_on_a_day_or_at_a_moment(at: str, models: list[str]) -> None:
    assert [span.model_id for span in answered(HISTORY, *_times(at))] == models


def test_a_span_says_until_when_and_who() -> None:
    first, second, third = answered(HISTORY, NOON - DAY, NOON + DAY)
    assert (first.until, second.since, second.until, third.until) == (NOON, NOON, NOON + timedelta(hours=1), None)
    assert [span.by for span in (first, second, third)] == ["person 2", "person 3", "person 4"]


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="2026-11-01"):
        _times("yesterday")


def test_a_mean_has_the_interval_of_its_values() -> None:
    found = Mean.of([0.0, 1.0, 1.0, 0.0])
    assert (found.count, found.mean) == (4, 0.5)
    assert found.high - found.mean == pytest.approx(1.96 * math.sqrt(1 / 3) / 2)
    assert math.isnan(Mean.of([]).mean) and math.isnan(Mean.of([1.0]).low)


def test_models_are_compared_where_both_reports_tell() -> None:
    answers = [
        ShadowAnswer(
            region="chest",
            serving="a",
            shadow="b",
            compared=10,
            shared=shared,
            serving_agreement=ours,
            shadow_agreement=theirs,
            serving_ms=4.0,
            shadow_ms=6.0,
        )
        for shared, ours, theirs in ((5, 0.2, 0.4), (7, None, None), (9, 0.4, 0.6))
    ]
    [one] = compared(answers)
    assert (one.overlap.count, one.overlap.mean) == (3, pytest.approx(0.7))
    assert (one.agreement_gain.count, one.agreement_gain.mean) == (2, pytest.approx(0.2))


def test_reports_of_cases_agree_with_the_querys_as_far_as_they_tell() -> None:
    own, same, other = (mine(text).findings for text in ("Large effusion.", "Large effusion.", "No effusion."))
    assert agreement(own, [same, same], "chest") == pytest.approx(1)
    mixed = agreement(own, [same, other], "chest")
    assert mixed is not None and 0 <= mixed < 0.75
    assert agreement(own, [()], "chest") is None and agreement((), [same], "chest") is None
