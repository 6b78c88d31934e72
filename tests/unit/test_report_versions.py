"""Which versions of a report hold: by status and time, never by the order in which they came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radir_pacs.catalogue.incoming import WITHDRAWN, ReportStatus
from radir_pacs.catalogue.report_versions import Version, in_force

P, F, A, D, X, E = ReportStatus
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def version(number: int, status: ReportStatus, minute: int, **said: Any) -> Version:
    at = BEGAN + timedelta(minutes=minute)
    document = said.pop("document", "D1")
    fields: dict[str, Any] = {"version_at": at, "sent_at": at, "content_sha256": f"text {number}"} | said
    return Version(id=number, group=("hl7", "RIS", document), status=status, **fields)


@pytest.mark.parametrize(
    ("told", "holds"),
    [
        ([(P, 1)], [1]),
        ([(P, 1), (F, 2)], [2]),
        ([(F, 1), (P, 2)], [1]),  # a late preliminary one
        ([(P, 1), (P, 2)], [2]),
        ([(F, 1), (A, 2)], [2]),
        ([(F, 2), (A, 1)], [1]),  # a correction that was overtaken
        ([(F, 1), (X, 2)], []),
        ([(F, 1), (E, 2), (P, 3)], []),
        ([(F, 1), (X, 2), (F, 3)], [3]),
        ([(F, 1), (D, 2)], [1, 2]),
        ([(F, 1), (D, 2), (A, 3)], [3]),  # which has the addendum in it
        ([(F, 1), (D, 2), (X, 3)], []),
        ([(D, 1)], [1]),
        ([(P, 1), (D, 2), (F, 3)], [3]),
    ],
)
def test_what_holds(told: list[tuple[ReportStatus, int]], holds: list[int]) -> None:
    versions = [version(number, status, minute) for number, (status, minute) in enumerate(told, 1)]
    for order in permutations(versions):
        assert [held.id for held in in_force(order)] == holds


def test_a_document_that_another_replaces_is_gone() -> None:
    first, second = version(1, F, 1), version(2, F, 2, document="D2", replaces=("D1",))
    assert [held.id for held in in_force([first, second])] == [2]
    withdrawn = version(3, X, 3, document="D2")
    assert in_force([first, second, withdrawn]) == []


def test_one_moment_is_ordered_by_message_then_by_arrival() -> None:
    told = {"version_at": BEGAN}
    early, late = (
        version(number, F, 0, **told, sent_at=BEGAN + timedelta(minutes=at)) for number, at in ((1, 2), (2, 1))
    )
    assert [held.id for held in in_force([early, late])] == [1]
    twins = [version(number, F, 0) for number in (1, 2)]
    assert [held.id for held in in_force(twins)] == [2]


@given(st.lists(st.tuples(st.sampled_from(list(ReportStatus)), st.integers(0, 5)), max_size=8), st.randoms())
def test_at_most_one_base_holds_and_order_is_nothing(told: list[tuple[ReportStatus, int]], random: Any) -> None:
    versions = [version(number, status, minute) for number, (status, minute) in enumerate(told, 1)]
    held = in_force(versions)
    shuffled = list(versions)
    random.shuffle(shuffled)
    assert in_force(shuffled) == held
    assert sum(one.status is not ReportStatus.ADDENDUM for one in held) <= 1
    assert not any(one.status in WITHDRAWN for one in held)
    complete = [one for one in versions if one.status in (F, A)]
    if complete and any(one.status in (F, A, P) for one in held):
        assert any(one.status in (F, A) for one in held), "a preliminary one holds only alone"
