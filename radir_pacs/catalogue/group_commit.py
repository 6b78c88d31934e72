"""Group commit: what several threads want to write at the same time becomes one transaction.

Nobody waits for company: whoever comes alone writes at once, in its own thread; whoever comes while that transaction
runs is written by the next one, together with all others who came meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Waiting(Generic[T, R]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.called = threading.Event()  # its outcome is there, or it is its turn to write
        self.outcome: Future[R] = Future()


class GroupCommit(Generic[T, R]):
    """``write`` gets up to ``most`` items and returns an outcome for each; it is never run by two threads at once."""

    def __init__(self, write: Callable[[Sequence[T]], Sequence[R]], *, most: int) -> None:
        self._write, self._most = write, most
        self._lock = threading.Lock()
        self._queue: list[_Waiting[T, R]] = []
        self._is_writing = False

    def __call__(self, item: T) -> R:
        """The outcome of ``item``, once it is written. Raises what ``write`` raises, to everybody in the group."""
        mine: _Waiting[T, R] = _Waiting(item)
        with self._lock:
            self._queue.append(mine)
            leads, self._is_writing = not self._is_writing, True
        if not leads:
            mine.called.wait()
        if not mine.outcome.done():
            self._lead()
        return mine.outcome.result()

    def _lead(self) -> None:
        """Write the head of the queue, where the caller's own item is, then call the next."""
        with self._lock:
            group, self._queue = self._queue[: self._most], self._queue[self._most :]
        try:
            outcomes = self._write([one.item for one in group])
            for one, outcome in zip(group, outcomes, strict=True):
                one.outcome.set_result(outcome)
        except BaseException as error:
            for one in group:
                if not one.outcome.done():
                    one.outcome.set_exception(error)
        with self._lock:
            successors = self._queue[:1]
            self._is_writing = bool(successors)
        for one in (*successors, *group):
            one.called.set()
