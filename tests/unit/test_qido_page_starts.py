"""Where a page of a search ended is known for a while; a start never lies behind what is asked for."""

from __future__ import annotations

from radir_pacs.catalogue.qido_page_starts import FIRST, KEPT_S, SEARCHES_MAX, STARTS_MAX, PageStart, PageStarts


def studies(*numbers: int) -> list[tuple[int, str]]:
    return [(number, str(number)) for number in numbers]


def test_the_nearest_start_is_not_behind_the_row() -> None:
    starts = PageStarts()
    starts.remember("a", 0, studies(1, 2, 3), one_each=True)
    starts.remember("a", 3, studies(4, 5, 6), one_each=True)
    assert starts.nearest("a", 1) == FIRST
    assert starts.nearest("a", 3) == starts.nearest("a", 4) == PageStart(row=2, newest_first=3, study_uid="3")
    assert starts.nearest("a", 6) == starts.nearest("a", 1000) == PageStart(row=5, newest_first=6, study_uid="6")
    assert starts.nearest("b", 1000) == FIRST


def test_a_start_is_the_first_row_of_its_study() -> None:
    starts = PageStarts()
    starts.remember("a", 10, studies(1, 1, 2, 2, 2), one_each=False)
    assert starts.nearest("a", 15) == PageStart(row=12, newest_first=2, study_uid="2")
    starts.remember("a", 15, studies(2, 2, 2), one_each=False)  # it began before this page
    assert starts.nearest("a", 18) == PageStart(row=12, newest_first=2, study_uid="2")
    starts.remember("b", 4, studies(7), one_each=False)
    assert starts.nearest("b", 5) == FIRST
    starts.remember("b", 4, studies(7), one_each=True)
    assert starts.nearest("b", 5) == PageStart(row=4, newest_first=7, study_uid="7")


def test_a_page_read_again_replaces_its_start() -> None:
    starts = PageStarts()
    starts.remember("a", 0, studies(1, 2), one_each=True)
    starts.remember("a", 0, studies(0, 1), one_each=True)
    assert starts.nearest("a", 2) == PageStart(row=1, newest_first=1, study_uid="1")
    starts.remember("a", 5, [], one_each=True)
    assert starts.nearest("a", 9) == PageStart(row=1, newest_first=1, study_uid="1")


def test_starts_are_forgotten() -> None:
    now = [0.0]
    starts = PageStarts(clock=lambda: now[0])
    starts.remember("a", 0, studies(1, 2), one_each=True)
    now[0] = KEPT_S - 1
    assert starts.nearest("a", 2) != FIRST
    now[0] = KEPT_S
    assert starts.nearest("a", 2) == FIRST
    starts.remember("a", 7, studies(3), one_each=True)
    assert starts.nearest("a", 2) == FIRST and starts.nearest("a", 7).row == 7


def test_they_are_bounded() -> None:
    starts = PageStarts()
    for row in range(2 * STARTS_MAX):
        starts.remember("a", row, studies(row), one_each=True)
    assert starts.nearest("a", STARTS_MAX - 1) == FIRST
    assert starts.nearest("a", STARTS_MAX).row == STARTS_MAX
    for number in range(SEARCHES_MAX):
        starts.remember(number, 0, studies(1), one_each=True)
    assert starts.nearest("a", 1000) == FIRST
    assert starts.nearest(0, 1000) != FIRST
