"""The checks at the end of a drill on three machines take no empty answer for a right one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.machines import checks
from tests.machines.drill import QUERY, Drill, uid_of
from tests.machines.load import Answer


def answer(*cases: str) -> Answer:
    return Answer(began=0.0, seconds=0.1, status=200, cases=dict.fromkeys(cases, 0.5), model="m" if cases else "")


def drill(held: int) -> Drill:
    acknowledged: dict[str, Any] = dict.fromkeys(["1", "2", "3", uid_of(QUERY)])
    return cast(Drill, SimpleNamespace(held=held, modality=SimpleNamespace(acknowledged=acknowledged)))


def test_an_empty_answer_among_right_ones_is_wrong() -> None:
    whole, empty = answer("1", "2", "3"), answer()
    checks._check_best(drill(3), [whole], whole)
    checks._check_complete(drill(3), [whole, whole])
    for check in (
        lambda: checks._check_best(drill(3), [whole, empty, whole], whole),
        lambda: checks._check_complete(drill(3), [whole, empty, whole]),
    ):
        with pytest.raises(AssertionError):
            check()


def test_a_drill_holds_studies() -> None:
    with pytest.raises(AssertionError, match="holds no studies"):
        checks._check_best(drill(0), [answer()], answer())
