"""Where a page of a search ended is known for a while; a place never lies behind what is asked for."""

from __future__ import annotations

from radir_pacs.catalogue.qido_places import FIRST, KEPT_S, PLACES_MAX, SEARCHES_MAX, Place, Places


def studies(*numbers: int) -> list[tuple[int, str]]:
    return [(number, str(number)) for number in numbers]


def test_the_nearest_place_is_not_behind_the_row() -> None:
    places = Places()
    places.remember("a", 0, studies(1, 2, 3), one_each=True)
    places.remember("a", 3, studies(4, 5, 6), one_each=True)
    assert places.nearest("a", 1) == FIRST
    assert places.nearest("a", 3) == places.nearest("a", 4) == Place(row=2, newest_first=3, study_uid="3")
    assert places.nearest("a", 6) == places.nearest("a", 1000) == Place(row=5, newest_first=6, study_uid="6")
    assert places.nearest("b", 1000) == FIRST


def test_a_place_is_the_first_row_of_its_study() -> None:
    places = Places()
    places.remember("a", 10, studies(1, 1, 2, 2, 2), one_each=False)
    assert places.nearest("a", 15) == Place(row=12, newest_first=2, study_uid="2")
    places.remember("a", 15, studies(2, 2, 2), one_each=False)  # it began before this page
    assert places.nearest("a", 18) == Place(row=12, newest_first=2, study_uid="2")
    places.remember("b", 4, studies(7), one_each=False)
    assert places.nearest("b", 5) == FIRST
    places.remember("b", 4, studies(7), one_each=True)
    assert places.nearest("b", 5) == Place(row=4, newest_first=7, study_uid="7")


def test_a_page_read_again_replaces_its_place() -> None:
    places = Places()
    places.remember("a", 0, studies(1, 2), one_each=True)
    places.remember("a", 0, studies(0, 1), one_each=True)
    assert places.nearest("a", 2) == Place(row=1, newest_first=1, study_uid="1")
    places.remember("a", 5, [], one_each=True)
    assert places.nearest("a", 9) == Place(row=1, newest_first=1, study_uid="1")


def test_places_are_forgotten() -> None:
    now = [0.0]
    places = Places(clock=lambda: now[0])
    places.remember("a", 0, studies(1, 2), one_each=True)
    now[0] = KEPT_S - 1
    assert places.nearest("a", 2) != FIRST
    now[0] = KEPT_S
    assert places.nearest("a", 2) == FIRST
    places.remember("a", 7, studies(3), one_each=True)
    assert places.nearest("a", 2) == FIRST and places.nearest("a", 7).row == 7


def test_they_are_bounded() -> None:
    places = Places()
    for row in range(2 * PLACES_MAX):
        places.remember("a", row, studies(row), one_each=True)
    assert places.nearest("a", PLACES_MAX - 1) == FIRST
    assert places.nearest("a", PLACES_MAX).row == PLACES_MAX
    for number in range(SEARCHES_MAX):
        places.remember(number, 0, studies(1), one_each=True)
    assert places.nearest("a", 1000) == FIRST
    assert places.nearest(0, 1000) != FIRST
