"""Group commit: whoever waits is written together; nobody is lost, written twice, or told of another's outcome."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from radir_pacs.catalogue.group_commit import GroupCommit, Prepared


class Item(Prepared):
    def __init__(self, number: int, fails: bool = False) -> None:
        super().__init__(self._prepare)
        self.number, self.fails, self.prepared_by = number, fails, 0

    def _prepare(self) -> None:
        assert not self.prepared_by, "prepared twice"
        self.prepared_by = threading.get_ident()
        if self.fails:
            raise OSError("disk full")


def write(items: Sequence[Item]) -> list[int | None]:
    """The number of each, None for all when one cannot be prepared."""
    try:
        for item in items:
            item.done()
    except OSError:
        return [None] * len(items)
    return [item.number for item in items]


def test_each_gets_its_own_outcome_and_is_written_once() -> None:
    written: list[int] = []
    writers: list[int] = []

    def kept(items: Sequence[Item]) -> list[int | None]:
        writers.append(len(items))
        assert len(items) <= 5
        written.extend(item.number for item in items)
        return write(items)

    group = GroupCommit(kept, most=5)
    items = [Item(number) for number in range(200)]

    def add(number: int) -> int | None:
        items[number] = Item(number)
        outcome = group(items[number])
        assert items[number].prepared_by == threading.get_ident(), "in another's thread"
        return outcome

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(add, range(200))) == list(range(200))
    assert sorted(written) == list(range(200))
    assert sum(writers) == 200


def test_who_comes_while_another_writes_is_written_with_the_others() -> None:
    groups: list[list[int]] = []
    first_is_in, others_wait = threading.Event(), threading.Event()

    def slow(items: Sequence[Item]) -> list[int | None]:
        groups.append(sorted(item.number for item in items))
        if len(groups) == 1:
            first_is_in.set()
            assert others_wait.wait(10)
        return write(items)

    group = GroupCommit(slow, most=64)
    arrived = threading.Barrier(4)

    class Follower(Item):
        def _prepare(self) -> None:  # a follower does its part after it has queued
            super()._prepare()
            arrived.wait(10)

    with ThreadPoolExecutor(4) as pool:
        leader = pool.submit(lambda: group(Item(0)))
        assert first_is_in.wait(10)
        followers = [pool.submit(lambda n=n: group(Follower(n))) for n in (1, 2, 3)]  # type: ignore[misc]
        arrived.wait(10)
        others_wait.set()
        assert leader.result() == 0
        assert sorted(one.result() or 0 for one in followers) == [1, 2, 3]
    assert groups == [[0], [1, 2, 3]]


def test_an_item_that_fails_takes_its_group_along_and_nobody_waits_for_ever() -> None:
    group = GroupCommit(write, most=8)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: group(Item(n, fails=n % 3 == 0)), range(60)))
    assert all(outcomes[n] is None for n in range(0, 60, 3))


def test_an_error_is_raised_to_everybody_and_the_next_is_written() -> None:
    broken = threading.Event()

    def sometimes(items: Sequence[Item]) -> list[int | None]:
        if not broken.is_set():
            broken.set()
            raise ValueError("no")
        return write(items)

    group = GroupCommit(sometimes, most=8)
    with pytest.raises(ValueError, match="no"):
        group(Item(1))
    assert group(Item(2)) == 2
